"""What MySQL's and MariaDB's errors mean for a run, whichever driver raised them.

Sources: MySQL 8.4, "Server Error Message Reference" and "Client Error Message Reference"; MariaDB's knowledge
base, "MariaDB Error Code Reference".
"""

from __future__ import annotations

import re

from migrator.dialects import ErrorKind, ServerError
from migrator.dialects.unwrapped import driver_error

_BY_NUMBER = {
    number: kind
    for kind, numbers in {
        # 3572: NOWAIT
        ErrorKind.LOCK_TIMEOUT: (1205, 3572),
        # 3058: between user-level locks
        ErrorKind.DEADLOCK: (1213, 3058),
        # 1020: MariaDB's innodb_snapshot_isolation; 3101: group replication at COMMIT
        ErrorKind.SERIALIZATION: (1020, 3101),
        # 1927 (MariaDB) and 3169: killed; 4031: wait_timeout
        ErrorKind.CONNECTION_LOST: (
            1053,
            1152,
            1158,
            1159,
            1160,
            1161,
            1184,
            1927,
            2006,
            2013,
            2055,
            3169,
            4031,
        ),
        # 1047: a Galera node that is not ready; 3032: offline_mode
        ErrorKind.NOT_READY: (1047, 1135, 2002, 2003, 2005, 3032, 3168),
        # 1203, 1226: a limit of the user's
        ErrorKind.TOO_MANY_CONNECTIONS: (1040, 1203, 1226),
        ErrorKind.READ_ONLY: (1792, 1836, 1874),
        # 1129: a host that made too many errors; 3118, 4151: locked accounts; 20xx: TLS and plugins
        ErrorKind.REFUSED: (
            *(
                1045,
                1049,
                1129,
                1130,
                1251,
                1275,
                1698,
                1820,
                1862,
                2026,
                2058,
                2059,
                2061,
                3118,
                3159,
                3955,
                4151,
            ),
        ),
        ErrorKind.DENIED: (1044, 1095, 1142, 1143, 1227, 1370, 1410, 1419),
        ErrorKind.DISK_FULL: (1021, 1114),
        ErrorKind.CANCELLED: (1317,),
        ErrorKind.STATEMENT_TIMEOUT: (1969, 3024),
        ErrorKind.ALREADY_EXISTS: (1007, 1022, 1050, 1060, 1061, 1068, 1304, 1359, 1537, 1826, 3822),
        # 1138: ALTER … NOT NULL over nulls
        ErrorKind.NULL_VALUE: (1048, 1138, 1364),
        ErrorKind.DUPLICATE_KEY: (1062, 1169, 1586, 1859),
        ErrorKind.FOREIGN_KEY: (1216, 1217, 1451, 1452),
        ErrorKind.CHECK_VIOLATED: (3819, 4025),
        ErrorKind.NO_TABLE: (1051, 1146, 1824),
        ErrorKind.NO_COLUMN: (1054, 1072, 1091),
        ErrorKind.SYNTAX: (1064, 1149, 1235),
        ErrorKind.NEEDS_NO_TRANSACTION: (1179, 1568),
        ErrorKind.TOO_MANY_LOCKS: (1206,),
    }.items()
    for number in numbers
}

# Numbers that stand for many things; what the server adds tells which.
_BY_WORDS = (
    (1290, re.compile(r"read.only"), ErrorKind.READ_ONLY),
    (1005, re.compile(r"errno: 121\b"), ErrorKind.ALREADY_EXISTS),
    (3, re.compile(r"\b28\b"), ErrorKind.DISK_FULL),
    (1026, re.compile(r"\b28\b"), ErrorKind.DISK_FULL),
    (1030, re.compile(r"\b28\b"), ErrorKind.DISK_FULL),
)
# Without a number: drivers that find their own connection closed.
_LOST_WORDS = ("Already closed", "Not connected", "TCPTransport closed", "network operation failed")

_DRIVERS = (
    "pymysql",
    "MySQLdb",
    "asyncmy",
    "aiomysql",
    "mysql.connector",
    "mariadb",
    "cymysql",
    "sqlalchemy.dialects.mysql",
)


def read_error(error: BaseException) -> ServerError | None:
    """See :meth:`migrator.dialects.Dialect.read_error`."""
    found = _driver_error(error)
    if found is None:
        return None
    number, words = _number_and_words(found)
    kind = _kind(number, words)
    if getattr(error, "connection_invalidated", False) and kind is ErrorKind.OTHER:
        kind = ErrorKind.CONNECTION_LOST
    message = words or ("the connection is closed" if kind is ErrorKind.CONNECTION_LOST else "no message")
    # The SQLSTATE, which newer drivers know, is HY000 for most and would hide the number that people search for.
    return ServerError(kind, message, number=number)


def _driver_error(error: BaseException) -> BaseException | None:
    return driver_error(error, lambda one: type(one).__module__.startswith(_DRIVERS))


def _number_and_words(error: BaseException) -> tuple[int, str]:
    """PEP 249 leaves it open; these drivers agree on ``(number, words)``. Connector/Python has attributes."""
    number = getattr(error, "errno", None)
    words = getattr(error, "msg", None)
    arguments = error.args
    if not isinstance(number, int):
        number = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    if words is None:
        others = arguments[1:] if arguments and isinstance(arguments[0], int) else arguments
        words = " ".join(str(other) for other in others)
    return number, " ".join(str(words).split())


def _kind(number: int, words: str) -> ErrorKind:
    if number in _BY_NUMBER:
        return _BY_NUMBER[number]
    for among, pattern, kind in _BY_WORDS:
        if number == among and pattern.search(words):
            return kind
    # PyMySQL's InterfaceError(0, ""): the connection was closed before.
    if not number and (not words or any(known in words for known in _LOST_WORDS)):
        return ErrorKind.CONNECTION_LOST
    return ErrorKind.OTHER

#!/usr/bin/env bash
# The one step of the action: refuse what cannot be meant, run migrator in its image or as it is installed, tell what
# came of it. Everything comes by the environment (INPUT_*, and the database); outputs go to GITHUB_OUTPUT. The exit
# code is migrator's, or Docker's (125 to 127); 2 where an input was refused.
set -euo pipefail

summary=${GITHUB_STEP_SUMMARY:-}
output=${GITHUB_OUTPUT:-/dev/null}
report='' report_there='' container='' child='' stopped='' early='' interrupted=''

# What has a JSON report, what answers on standard output, and what writes into the repository.
REPORTING='upgrade downgrade stamp wait status current check config'
ANSWERING='sql history heads alembic demo explain'
WRITING='revision merge'
CONNECTING='upgrade downgrade stamp wait status current'
FILES='PGSSLROOTCERT PGSSLCERT PGSSLKEY PGSSLCRL PGPASSFILE PGSERVICEFILE MIGRATOR_SECRETS_DIR'

one_of() { [[ " $2 " == *" $1 "* ]]; }
escaped() { # as the runner's workflow commands want it
  local text=${1//'%'/%25}
  text=${text//$'\r'/%0D}
  printf '%s' "${text//$'\n'/%0A}"
}
literal() { # as Markdown that shows it as it is
  printf '%s' "$1" | sed 's/[][\\`*_{}<>()#+!|~&]/\\&/g'
}

# tell CODE WHAT NEXT: as migrator tells its own failures, in the log, as an annotation and in the summary.
tell() {
  printf 'failed    %s\nnext      %s\nexit      %s\n' "$2" "$3" "$1" >&2
  printf '::error title=migrate::%s%%0A%s\n' "$(escaped "$2")" "$(escaped "$3")"
  if [ -n "$summary" ]; then
    printf '### migrator: exit %s\n\n**Cause** %s\n\n**Next** %s\n\n' "$1" "$(literal "$2")" "$(literal "$3")" \
      >>"$summary" || true
  fi
}

warn() {
  printf 'warning   %s\n' "$1" >&2
  printf '::warning title=migrate::%s\n' "$(escaped "$1")"
}

# finish CODE: the outputs, and the end.
finish() {
  {
    printf 'exit-code=%s\n' "$1"
    if [ -n "$report_there" ]; then
      printf 'report=%s\n' "$report"
      facts
    fi
  } >>"$output"
  exit "$1"
}

refuse() { # WHAT NEXT
  tell 2 "$1" "$2"
  finish 2
}

# What the report says, as outputs. A run that did not come as far as a database has no targets.
facts() {
  jq --raw-output '
    def named: if any(. == null) then "" else (add | unique | if length == 0 then "base" else join(",") end) end;
    .targets as $targets
    | [$targets[].steps // empty | .[]] as $steps
    | if $targets == [] then
        {current: "", target: "", pending: "", applied: (if .error then "" else 0 end)}
      elif all($targets[]; has("heads")) then
        {current: [$targets[].at] | named, target: [$targets[].heads] | named,
         pending: (if any($targets[]; .unknown != []) then "" else [$targets[].pending[]] | length end), applied: 0}
      elif all($targets[]; has("steps")) then
        {current: [$targets[].at] | named,
         target: (if all($targets[]; .verified) then [$targets[].at] | named
                  elif $steps != [] and all($steps[]; .direction == "upgrade") then
                    [$targets[].steps | last | select(.).revision] | unique | join(",")
                  else "" end),
         pending: (if $steps == [] and .error then "" else [$steps[] | select(.outcome != "applied")] | length end),
         applied: [$steps[] | select(.outcome == "applied")] | length}
      else
        {current: "", target: "", pending: "", applied: 0}
      end
    | to_entries[] | "\(.key)=\(.value | tostring | gsub("[\r\n]"; " "))"' "$report"
}

# show FILE: code of the project may have written into it what the runner would take for commands to itself.
show() {
  local token
  [ -s "$1" ] || return 0
  token=$(head --bytes=16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  printf '::stop-commands::%s\n' "$token"
  cat -- "$1"
  printf '\n::%s::\n' "$token"
}

# The answer, for whoever reads the log: it went into the report.
answer() {
  jq --raw-output '
    def named: if . == [] then "base" else join(", ") end;
    def line: gsub("[[:cntrl:]]"; " ");
    if has("at_head") then
      .targets[]
      | "at        \(.at | named), wanted \(.heads | named)",
        (.pending[] | "pending   \(.revision)  \(.message)"),
        (.unknown[] | "ahead     \(.), which is not here")
    elif has("settings") then .settings[] | "\(.name): \(.value) (\(.source))"
    elif has("findings") then
      "checked   \(.checked | join(", "))", (if .findings == [] then "done      nothing is wrong" else empty end)
    elif has("written") then .written[] | "written   \(.file)"
    else empty end
    | line' "$report" >&2
  jq --raw-output 'select(.exit_code != 0 and .error == null) | "exit      \(.exit_code) \(.exit_meaning)"' "$report" >&2
}

# ------------------------------------------------------------------------------------------------------------ inputs
check_inputs() {
  local name value
  local scheme='(postgres|postgresql|mysql|mariadb|sqlite|oracle|mssql|cockroachdb)(\+[a-z0-9_]+)?://'
  shopt -s nocasematch
  for name in image command args env network working-directory report allow-tag; do
    value=INPUT_${name//-/_}
    value=${value^^}
    value=${!value:-}
    if [[ $value =~ $scheme || $value =~ ://[^/[:space:]]*@ || $value =~ (^|[^a-z])(password|passwd|pwd)= ]]; then
      refuse "the input $name holds what looks like a database URL or a password; it is not shown here" \
        "Name the database in the step's env, from a secret: MIGRATOR_DATABASE_URL: \${{ secrets.MIGRATOR_DATABASE_URL }}. What was written into the workflow is to be changed at the server: the runner's log shows inputs."
    fi
    if [ "$name" != args ] && [ "$name" != env ] && [[ $value =~ [[:cntrl:]] ]]; then
      refuse "the input $name holds a line break" 'Give one line.'
    fi
  done
  shopt -u nocasematch
  if ! one_of "$INPUT_COMMAND" "$REPORTING $ANSWERING $WRITING" || [[ $INPUT_COMMAND == *' '* ]]; then
    refuse "migrator has no command '$INPUT_COMMAND'" \
      "Set the input command to one of $REPORTING $ANSWERING $WRITING, and what follows it to args, one argument on each line."
  fi
  case $INPUT_ALLOW_TAG in
    true | false) ;;
    *) refuse "the input allow-tag is '$INPUT_ALLOW_TAG'" 'Set it to true or false.' ;;
  esac
  case $INPUT_WORKING_DIRECTORY in
    /* | .. | ../* | */.. | */../*)
      refuse "the input working-directory is '$INPUT_WORKING_DIRECTORY'" \
        'Give the folder of alembic.ini as a path inside the repository, such as backend.'
      ;;
  esac
  check_image
}

by_digest() {
  local digest='^[^[:space:]@]+@sha256:[0-9a-f]{64}$'
  [[ $INPUT_IMAGE =~ $digest ]]
}

check_image() {
  case $INPUT_IMAGE in
    local) return ;;
    '') refuse 'the input image is empty' \
      'Set it to NAME@sha256:… (docker build and push say the digest), or to local. If it comes from an output of another job, that output is empty: does the job name it in outputs, and is it in needs?' ;;
    -*) refuse "the input image is '$INPUT_IMAGE'" 'Set it to NAME@sha256:….' ;;
  esac
  if ! by_digest && [ "$INPUT_ALLOW_TAG" = false ]; then
    refuse "the image '$INPUT_IMAGE' is not named by its digest" \
      "Set the input image to NAME@sha256: and 64 hexadecimal digits: only then every environment runs what was tested. 'docker buildx imagetools inspect NAME:TAG' says the digest. If the tag is meant, set allow-tag: true."
  fi
  if one_of "$INPUT_COMMAND" "$WRITING"; then
    refuse "$INPUT_COMMAND writes a file into the repository, which the image does not see" \
      'Install migrator in this job and set the input image to local.'
  fi
}

# Fills `names`: the variables that go into the image.
names=()
choose_variables() {
  local name named=() exported
  exported=$'\n'$(compgen -e)$'\n'
  while IFS= read -r name; do
    name=${name//[[:space:]]/}
    [ -n "$name" ] || continue
    [[ $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] ||
      refuse 'the input env holds a line that is no name of a variable' \
        "Give names alone, one on each line; the values belong into the step's env."
    [[ $exported == *$'\n'"$name"$'\n'* ]] ||
      refuse "the input env names $name, which is not set" "Set $name in the step's env, or leave the name out."
    named+=("$name")
  done <<<"$INPUT_ENV"
  while IFS= read -r name; do
    case $name in
      MIGRATOR_* | PG* | DATABASE_URL | DB_HOST | DB_PORT | DB_USER | DB_PASSWORD | DB_NAME) names+=("$name") ;;
    esac
  done < <(compgen -e)
  if [ -n "${MIGRATOR_ENV:-}" ]; then
    name=${MIGRATOR_ENV//[^A-Za-z0-9_]/_}_DATABASE_URL
    name=${name^^}
    [ -z "${!name+set}" ] || names+=("$name")
  fi
  check_database "${#named[@]}"
  names+=("${named[@]}")
}

# check_database NAMED: without any word of a database, env.py would look for one where it finds none. Who names
# variables of their own (NAMED of them) knows better.
check_database() {
  local name empty='' argument
  one_of "$INPUT_COMMAND" "$CONNECTING" || return 0
  for argument in "${args[@]}"; do
    [ "$argument" != --sql ] || return 0
  done
  for name in "${names[@]}"; do
    case $name in
      *DATABASE_URL | *DATABASE_URL_FILE | MIGRATOR_SECRETS_DIR | DB_HOST | PGHOST | PGDATABASE | PGSERVICE)
        [ -z "${!name}" ] || return 0
        [[ $name != *DATABASE_URL ]] || empty=$name
        ;;
    esac
  done
  [ "$1" = 0 ] || return 0
  if [ -n "$empty" ] && from_fork; then
    refuse "$empty is empty: GitHub gives no secrets to the pull request of a fork" \
      'Run this job only where the branch is of this repository: if: github.event.pull_request.head.repo.full_name == github.repository. For pull requests of forks, use a database that the job makes itself (a service container).'
  fi
  if [ -n "$empty" ]; then
    refuse "$empty is empty: the secret that it is read from does not exist for this job" \
      "Create the secret for the repository, or for an environment (Settings, Environments) that the job names: environment: NAME. In a called workflow, secrets are passed on by the caller (secrets:), except an environment's."
  fi
  refuse 'no database is named: neither MIGRATOR_DATABASE_URL nor DATABASE_URL is set' \
    "Set it in the step's env, from a secret: MIGRATOR_DATABASE_URL: \${{ secrets.MIGRATOR_DATABASE_URL }}. Where env.py reads variables of its own, name them in the input env."
}

from_fork() {
  [ -f "${GITHUB_EVENT_PATH:-}" ] && jq --exit-status '
    .pull_request | . != null and .head.repo.full_name != .base.repo.full_name' "$GITHUB_EVENT_PATH" >/dev/null 2>&1
}

# ------------------------------------------------------------------------------------------------------------ running
# attended COMMAND…: its exit code. A signal goes on to it, and it is waited for until it has ended.
attended() {
  local code=0
  [ -z "$stopped" ] || return "$stopped"
  # trap: what is started in the background would ignore SIGINT. (set -m does the same, and takes the terminal away.)
  (
    trap - INT TERM EXIT
    exec "$@"
  ) </dev/null &
  child=$!
  [ -z "$early" ] || kill -s "$early" "$child" 2>/dev/null || true
  while :; do
    wait "$child" && code=0 || code=$?
    # More than 128 and a signal: only the waiting has ended.
    [ -n "$interrupted" ] && [ "$code" -gt 128 ] || break
    interrupted=''
  done
  child=''
  return "$code"
}

# shellcheck disable=SC2329 # called by the traps below
hand_on() { # SIGNAL CODE
  interrupted=yes stopped=$2
  if [ -z "$child" ]; then
    early=$1
  else
    kill -s "$1" "$child" 2>/dev/null || true
  fi
}

# Where the client of Docker ended before its container, nobody else would stop it.
# shellcheck disable=SC2329 # called by a trap
sweep() {
  [ -z "$container" ] || [ -z "$stopped" ] || docker stop "$container" >/dev/null 2>&1 || true
  [ -z "$container" ] || docker rm --force "$container" >/dev/null 2>&1 || true
}

mount() { # SOURCE TARGET [readonly]: an argument for --mount, which is a line of CSV
  printf 'type=bind,"src=%s","dst=%s"%s' "${1//\"/\"\"}" "${2//\"/\"\"}" "${3:+,$3}"
}

in_image() {
  local name value code=0
  command -v docker >/dev/null ||
    refuse 'the command docker is not there' \
      'Use a runner that has Docker (ubuntu-latest), or install migrator in this job and set the input image to local.'
  container=migrator-${GITHUB_RUN_ID:-0}-$$-$RANDOM
  local options=(
    --rm --init --name "$container" --network "$INPUT_NETWORK" --user "$(id -u):$(id -g)"
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
    --env GITHUB_ACTIONS=true --env GITHUB_WORKSPACE=/app
    --env "GITHUB_WORKING_DIRECTORY=$INPUT_WORKING_DIRECTORY"
  )
  # Whoever waits for the run lock reads there who holds it.
  [[ $INPUT_NETWORK == container:* ]] || options+=(--hostname "github-run-${GITHUB_RUN_ID:-0}")
  if [ -n "$summary" ]; then
    options+=(--env GITHUB_STEP_SUMMARY=/github/step-summary --mount "$(mount "$summary" /github/step-summary)")
  fi
  for name in "${names[@]}"; do
    options+=(--env "$name")
    value=${!name}
    if { one_of "$name" "$FILES" || [[ $name == MIGRATOR_*_FILE ]]; } && [[ $value == /* ]] && [ -e "$value" ]; then
      options+=(--mount "$(mount "$value" "$value" readonly)")
    fi
  done
  # What a tag means can have changed since this machine pulled it; a digest means the same for ever.
  local there='' found
  ! docker image inspect "$INPUT_IMAGE" >/dev/null 2>&1 || there=yes
  if [ -z "$there" ] || ! by_digest; then
    attended docker pull --quiet "$INPUT_IMAGE" >/dev/null || code=$?
    if [ "$code" -gt 128 ]; then
      tell "$code" 'stopped while the image was pulled' 'Run it again. Nothing was changed.'
      finish "$code"
    elif ! docker version >/dev/null 2>&1; then
      tell 125 'no Docker Engine answers' \
        'Use a runner that has one (ubuntu-latest), or install migrator in this job and set the input image to local. What Docker said stands above. Nothing was changed.'
      finish 125
    elif [ "$code" -ne 0 ] && [ -n "$there" ]; then
      warn "Docker could not pull the image '$INPUT_IMAGE', and this goes on with the one of that name on this runner, which may be an older one. What Docker said stands above."
    elif [ "$code" -ne 0 ]; then
      tell 125 "Docker could not pull the image '$INPUT_IMAGE'" \
        'What Docker said stands above. Log in before this step where the registry wants it (docker login; for ghcr.io the job needs permissions: packages: read), and compare the name and the digest with those that were pushed. Nothing was changed.'
      finish 125
    fi
  fi
  name=$INPUT_IMAGE
  if ! by_digest; then
    # By the digest from here on: another job of this machine could pull the tag anew. What was only built here has none.
    [[ ${name##*/} != *:* ]] || name=${name%:*}
    found=$(docker image inspect --format '{{json .RepoDigests}}' "$INPUT_IMAGE" |
      jq --raw-output --arg name "$name@" '. // [] | (map(select(startswith($name))) + .)[0] // empty')
    name=${found:-$INPUT_IMAGE}
    [ -n "$found" ] || warn "the image '$INPUT_IMAGE' has no digest: it was built on this runner and comes from no registry."
  fi
  printf 'image     %s\n' "$name" >&2
  migrator=(docker run "${options[@]}" "$name")
}

installed() {
  cd -- "$INPUT_WORKING_DIRECTORY" 2>/dev/null ||
    refuse "the input working-directory is '$INPUT_WORKING_DIRECTORY', which is not there" \
      'Check the repository out before this step (actions/checkout), or correct the path.'
  command -v migrator >/dev/null ||
    refuse 'the input image is local, and the command migrator is not there' \
      'Install your application with migrator in an earlier step of this job (one in a virtual environment has to be on PATH: write its bin folder to GITHUB_PATH), or set image to NAME@sha256:….'
  migrator=(migrator)
}

# explain CODE: for an end that migrator has not told of itself.
explain() {
  case $1 in
    125) tell 125 'Docker could not start the image' \
      'What Docker said stands above. Where the job itself runs in a container, Docker does not see its files: install migrator there and set the input image to local. Nothing was changed.' ;;
    126) tell 126 "the image's entry point cannot be run" \
      'Build the image FROM migrator:runner and leave its ENTRYPOINT as it is (docs/docker.md). Nothing was changed.' ;;
    127) tell 127 'there is no migrator in the image' \
      'Build the image FROM migrator:runner and leave its ENTRYPOINT as it is (docs/docker.md). Nothing was changed.' ;;
    130 | 143) tell "$1" 'stopped, as it seems before migrator had begun' \
      'Run it again. Had it begun, the server rolls an open transaction back.' ;;
    137) tell 137 'killed: out of memory, or by docker kill' \
      'The server rolls an open transaction back. Look at the memory of the runner, then run it again: it goes on where this one ended.' ;;
    *) tell "$1" "$INPUT_COMMAND ended with exit code $1 and no report" 'What it said stands above.' ;;
  esac
}

# ---------------------------------------------------------------------------------------------------------------- all
trap 'hand_on INT 130' INT
trap 'hand_on TERM 143' TERM
trap sweep EXIT

# Annotations are told beside the text alone, and the log is for people.
export MIGRATOR_LOG_FORMAT=text

command -v jq >/dev/null || refuse 'the command jq is not there' 'Install jq on the runner; those of GitHub have it.'
check_inputs
args=()
while IFS= read -r line; do
  line=${line%$'\r'}
  [ -z "$line" ] || args+=("$line")
done <<<"$INPUT_ARGS"
choose_variables

report=${INPUT_REPORT:-}
if [ -z "$report" ]; then
  report=$(mktemp "${RUNNER_TEMP:-/tmp}/migrator-$INPUT_COMMAND-XXXXXX.json")
else
  [[ $report == /* ]] || report=$PWD/$report
  { mkdir -p -- "$(dirname -- "$report")" && : >"$report"; } 2>/dev/null ||
    refuse "the report cannot be written to '$INPUT_REPORT'" 'Give a path in a folder that this job may write to.'
fi

migrator=()
if [ "$INPUT_IMAGE" = local ]; then installed; else in_image; fi

wanted=yes
one_of "$INPUT_COMMAND" "$ANSWERING merge" && wanted=''
for argument in "${args[@]}"; do
  [ "$argument" != --sql ] || wanted=''
done
said_before=$([ -z "$summary" ] || wc -c 2>/dev/null <"$summary" || true)

code=0
if [ -n "$wanted" ]; then
  attended "${migrator[@]}" "$INPUT_COMMAND" --json "${args[@]}" >"$report" || code=$?
  # --slurp: of nothing at all, older versions of jq say that it is true.
  if jq --exit-status --slurp --arg command "$INPUT_COMMAND" \
    'length == 1 and (.[0] | .schema_version != null and .command == $command)' "$report" >/dev/null 2>&1; then
    report_there=yes
    answer
  elif [ "$code" = 0 ]; then
    refuse "the image '$INPUT_IMAGE' ended with exit code 0 and without the report of migrator $INPUT_COMMAND" \
      'Build the image FROM migrator:runner and leave its ENTRYPOINT as it is (docs/docker.md). Whether anything was applied is not known: ask with the command status.'
  fi
else
  said_there=$(mktemp "${RUNNER_TEMP:-/tmp}/migrator-$INPUT_COMMAND-XXXXXX")
  attended "${migrator[@]}" "$INPUT_COMMAND" "${args[@]}" >"$said_there" || code=$?
  show "$said_there"
  rm -f -- "$said_there"
fi
[ -n "$report_there" ] || rm -f -- "$report"
# Python's start-up is stopped by a traceback.
[ -n "$report_there" ] || [ "$code" = 0 ] || code=${stopped:-$code}
said=$([ -z "$summary" ] || wc -c 2>/dev/null <"$summary" || true)
if [ "$code" -ne 0 ] && [ -z "$report_there" ] && [ "$said" = "$said_before" ]; then
  explain "$code"
fi
finish "$code"

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP_DATABASE_URL"]
app.config["SQLALCHEMY_BINDS"] = {"billing": os.environ["BILLING_DATABASE_URL"]}
db = SQLAlchemy(app)
migrate = Migrate(app, db)


class Order(db.Model):
    __tablename__ = "orders"
    id = db.Column(db.Integer, primary_key=True)


class Invoice(db.Model):
    __bind_key__ = "billing"
    __tablename__ = "invoices"
    id = db.Column(db.Integer, primary_key=True)

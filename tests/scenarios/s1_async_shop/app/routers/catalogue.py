import os

from fastapi import APIRouter
from sqlalchemy import select

from app.backend.db import async_session_maker
from app.models.categories import Category
from app.models.products import Product

router = APIRouter()


@router.get("/categories")
async def list_categories():
    async with async_session_maker() as session:
        found = await session.scalars(select(Category).order_by(Category.name))
        return [{"name": category.name, "slug": category.slug} for category in found]


@router.get("/products")
async def list_products():
    async with async_session_maker() as session:
        found = await session.scalars(select(Product).order_by(Product.name))
        return [{"name": product.name, "price": str(product.price)} for product in found]


@router.get("/health")
async def health():
    return {"worker": os.getpid()}

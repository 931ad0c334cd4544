"""Recipes that make models with ostro; they are run from a checkout and are no part of the package."""

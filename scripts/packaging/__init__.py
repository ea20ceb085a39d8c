"""Packing the application for people who do not have a checkout."""

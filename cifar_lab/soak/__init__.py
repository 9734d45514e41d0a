"""A run killed again and again: does it end as if nothing had been?"""

"""The tables of results: which experiments they are made of, their committed rows, and the pages that show them."""

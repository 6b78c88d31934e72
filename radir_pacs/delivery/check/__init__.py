"""Checks a structured report against TID 1500 as we write it, for what neither public validator sees."""

"""A structured report checked against TID 1500, as we write it: what neither public validator sees."""

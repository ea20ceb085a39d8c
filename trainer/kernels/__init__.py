"""The recurrences of RWKV, each in several forms behind one signature."""

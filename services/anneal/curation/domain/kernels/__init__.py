"""The loops that touch every byte, word or pair, compiled by numba.

Import a kernel inside the function that calls it: a process that calls none pays for no compiler. A kernel is compiled
when it is first called and kept in the `__pycache__` of its folder, or in the user's cache folder where that cannot be
written. All release the interpreter's lock and use integers (and single divisions) only, so results are the same on
every machine and with any number of threads.
"""

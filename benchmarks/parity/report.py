"""x"""


def report(found, settings, seconds):
    print(len(found), seconds)

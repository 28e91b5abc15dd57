"""All rows. The clients are programs of others with timers and pieces of their own: a row that failed is run once more by itself, and
what it said the first time stands in the output. A fault of the gateway fails twice."""

import sys
import unittest


def ran(suite):
    result = unittest.TextTestRunner().run(suite)
    wrong = [getattr(test, "test_case", test) for test, _ in result.failures + result.errors]
    return sorted({test.id() for test in wrong}), result.wasSuccessful()


def main(here):
    loader = unittest.TestLoader()
    wrong, is_well = ran(loader.discover(here, "test_*.py", here))
    if wrong:
        print("once more:", ", ".join(wrong), file=sys.stderr, flush=True)
        wrong, is_well = ran(loader.loadTestsFromNames(wrong))
    return 0 if is_well and not wrong else 1


sys.exit(main(sys.argv[1]))

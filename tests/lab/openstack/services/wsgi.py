"""Serves a WSGI application of OpenStack in one process: `python -m ... MODULE ADDRESS PORT`."""

import importlib
import sys

import waitress

module, address, port = sys.argv[1:]
del sys.argv[1:]  # the applications parse it, too
application = importlib.import_module(module).application
waitress.serve(application, host=address, port=int(port), threads=6, ident=None)

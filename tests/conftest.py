"""gevent patches the standard library before any test module is imported, as the service does."""

from gevent import monkey

monkey.patch_all()

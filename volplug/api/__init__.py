"""The control API as its server and its clients share it: bodies, routes, who may use it. No transport."""

"""Measures and targets of the control API."""

from collections.abc import Sequence

from benchmarks.measures import Measure
from benchmarks.targets import Part, Target

FIRST = Measure("api.first", "First request of the control API, which loads it")
GET = Measure("api.get", "Request for a volume among 10,000")
PAGE_100 = Measure("api.page.100", "Request for a page of 100 of 10,000 volumes")
PAGE_1000 = Measure("api.page.1000", "Request for a page of 1,000 of 10,000 volumes")
LIST = Measure("api.list", "Requests for all 10,000 volumes in pages of 1,000")
CREATE = Measure("api.create", "Creation of a sparse volume among 10,000, until its operation has ended")
DELETE = Measure("api.delete", "Deletion of it, until its operation has ended")
MIXED = Measure("api.mixed", "Sustained requests, 8 connections at once, time for each")
RATE = Measure("api.rate", "Sustained requests in a second", "")
RSS_BEFORE = Measure("api.rss.before", "Resident memory with 10,000 volumes, before the first request", "MiB")
RSS_USED = Measure("api.rss.used", "Resident memory after the figures above", "MiB")
RSS_AFTER = Measure("api.rss.after", "Resident memory after the sustained requests", "MiB")
GROWTH = Measure("api.rss.growth", "What the sustained requests add to the resident memory", "MiB")

MEASURES: Sequence[Measure] = (
    FIRST, GET, PAGE_100, PAGE_1000, LIST, CREATE, DELETE, MIXED, RATE, RSS_BEFORE, RSS_USED, RSS_AFTER,
    GROWTH,
)  # fmt: skip

TARGETS: Sequence[Target] = (
    Target(PAGE_100, 10, parts=(Part("a request for one volume", GET),), rest="99 more bodies"),
    Target(PAGE_1000, 100, parts=(Part("a page of 100", PAGE_100),), rest="900 more bodies"),
    Target(
        MIXED,
        1,
        parts=(Part("a request for one volume, alone", GET),),
        rest="one in eight is a page of 100 volumes, one a page of 100 of some hundred operations",
    ),
    Target(GROWTH, 5),
)

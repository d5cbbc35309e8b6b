"""DescribeVolumes."""

from __future__ import annotations

from tests.ec2sim import answers, refusals
from tests.ec2sim.clockwork import Clockwork
from tests.ec2sim.facts import VolumeFact
from tests.ec2sim.filters import page, volume_filter
from tests.ec2sim.requests import Request
from tests.ec2sim.table import VolumeTable


class Describing:
    """Answers what is shown of volumes, and counts looks."""

    def __init__(self, table: VolumeTable, clockwork: Clockwork) -> None:
        self._table = table
        self._clockwork = clockwork

    def describe(self, request: Request) -> bytes:
        """Answer DescribeVolumes."""
        wanted = request.listed("VolumeId")
        most = request.number("MaxResults")
        if wanted and most is not None:
            raise refusals.IDS_AND_PAGES()
        for each in wanted:
            if not each.startswith("vol-"):
                raise refusals.BAD_ID(each)
        looks = self._table.look(wanted, volume_filter(request.filters()))
        unknown = [look.volume_id for look in looks if look.shown is None] if wanted else []
        if unknown:
            words = refusals.NO_VOLUMES if len(unknown) > 1 else refusals.NO_VOLUME
            raise words(", ".join(unknown))
        shown = [look.shown for look in looks if look.shown is not None and look.is_passing]
        shown.sort(key=_volume_id)
        chosen, token = page(shown, _volume_id, most, request.get("NextToken"))
        body = answers.answer(request.action, answers.volumes(chosen, token))
        for look in looks:
            if not look.is_past:
                self._clockwork.looked(look.volume_id)  # after this answer, so that it shows the state still
        return body


def _volume_id(fact: VolumeFact) -> str:
    return fact.volume_id

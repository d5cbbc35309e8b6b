import asyncio

from volplug.drivers.cloud.first_result import first_result


async def test_first_result_ends_the_other_waits() -> None:
    ended = []

    async def never() -> str | None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("never")
        return None

    async def result(text: str | None) -> str | None:
        return text

    assert await first_result(never(), result(None), result("yes")) == "yes"
    assert ended == ["never"]
    assert await first_result(result(None), result(None)) is None

"""``dead-letters``: shows what was rejected, sends it back, or deletes it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.aws.dead_letter_queue import SqsDeadLetterQueue
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import resolve_home
from daemon.checkpoint.registry import checkpoint_is_missing, open_checkpoint
from daemon.cli.common import add_config_option, add_verb, settings_of
from daemon.errors import SetupFault
from daemon.observability.logs import configure_logging, printable
from daemon.operations.dead_letters import About, Choice, Place, as_json, groups_of
from daemon.operations.letter_office import JOBS_AT_MOST, LetterOffice, Method
from daemon.operations.letter_reader import POLLERS
from daemon.training_job.identity import Home
from daemon.wiring import flow_rules, open_configured_clients, training_jobs

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from daemon.aws.dead_letter_ports import MoveTask
    from daemon.config.settings import Settings
    from daemon.operations.dead_letters import Group, Letter
    from daemon.operations.letter_office import Back, Listing, Purged
    from daemon.operations.letter_reader import Reading
    from daemon.operations.verdict import Verdict

_SHOWN_OF_A_GROUP = 10
_PROGRESS_EVERY = 500
"""Letters."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "dead-letters",
        summary="show rejected messages, send them back, or delete them",
        description="Shows the messages in the dead-letter queue, and those whose bodies are kept "
        "in the checkpoint because no dead-letter queue took them; sends them back to the queue, "
        "or deletes them.",
        examples=[
            ("dead-letters list", "what was rejected, why, and what would become of it now"),
            ("dead-letters redrive --reason tags_incomplete", "sends these back to the queue"),
        ],
    )
    of_letters = parser.add_subparsers(metavar="WHAT", required=True)
    _add_list(of_letters)
    _add_show(of_letters)
    _add_redrive(of_letters)
    _add_purge(of_letters)


def _add_list(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "list",
        summary="list dead letters by reason, and what would become of each now",
        description="Lists the dead letters by reason, with what SageMaker and the checkpoint say "
        f"of their jobs now (of the first {JOBS_AT_MOST} jobs). Each letter is received once, "
        "hidden meanwhile, and made visible again at the end, also after Ctrl-C.",
        examples=[
            ("dead-letters list", "the latest of each reason"),
            ("dead-letters list --job churn-7 --long", "every letter about one job"),
            ("dead-letters list --offline --json", "all of them, without asking SageMaker"),
        ],
    )
    add_config_option(parser)
    _add_filters(parser)
    parser.add_argument("--offline", action="store_true", help="do not ask SageMaker")
    parser.add_argument(
        "--long", action="store_true", help="every letter, not only some of each reason"
    )
    _add_json(parser)
    parser.set_defaults(act=_list)


def _add_show(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "show",
        summary="show one dead letter with its body",
        description="Shows one dead letter: why it was rejected, what would become of it now, and "
        "its body without hyperparameters, environment and secrets.",
        examples=[("dead-letters show 7c0e3f52-0d2b-4a8e-9f43-6b8d4b6b3d6a", "one message")],
    )
    parser.add_argument("id", metavar="ID", help="message id, from 'dead-letters list'")
    add_config_option(parser)
    parser.add_argument("--offline", action="store_true", help="do not ask SageMaker")
    _add_json(parser)
    parser.set_defaults(act=_show)


def _add_redrive(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "redrive",
        summary="send dead letters back to the queue",
        description="Sends dead letters back to the queue, where the daemon reads their jobs' tags "
        "anew. None is lost, however this ends; one that is sent twice ends as a duplicate. "
        "Messages that are not this daemon's go back only by their ids.",
        examples=[
            ("dead-letters redrive --all", "everything, by SQS's own move task if there is one"),
            ("dead-letters redrive --job churn-7", "the letters of one job"),
            ("dead-letters redrive --reason tags_incomplete --dry-run", "which ones that would be"),
        ],
    )
    add_config_option(parser)
    _add_choice(parser)
    parser.add_argument(
        "--method",
        choices=[method.value for method in Method],
        default=Method.AUTO.value,
        help="for --all: SQS's own move task, or a copy that is then deleted; auto: the move task "
        "where there is one and all letters are this daemon's (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what would be sent")
    _add_json(parser)
    parser.set_defaults(
        act=_redrive,
        interrupted="interrupted: what was sent is in the queue, the rest where it was; run the "
        "same command again to go on",
    )


def _add_purge(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_verb(
        verbs,
        "purge",
        summary="delete dead letters",
        description="Lists dead letters, asks, and deletes exactly those listed; what arrives "
        "meanwhile stays. Their jobs' rows in the checkpoint stay, too.",
        examples=[
            ("dead-letters purge --reason job_gone", "asks before it deletes them"),
            ("dead-letters purge --all --yes", "everything, without asking"),
        ],
    )
    add_config_option(parser)
    _add_choice(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    _add_json(parser)
    parser.set_defaults(act=_purge, interrupted="interrupted: what was not deleted is unchanged")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", default="", metavar="R", help="only letters of this reason")
    parser.add_argument(
        "--job", default="", metavar="J", help="only letters about this job (name or ARN)"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help="message ids of letters")
    parser.add_argument("--all", action="store_true", help="all letters")
    _add_filters(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON, one object per line")


def _choice_of(arguments: argparse.Namespace) -> Choice:
    """Raises SetupFault unless the arguments say what is meant."""
    restricted = bool(arguments.reason or arguments.job)
    if bool(arguments.ids) + bool(arguments.all) + restricted != 1:
        raise SetupFault(
            "say which letters: ids, or --all, or --reason and --job; 'dead-letters list' shows "
            "them"
        )
    return Choice(tuple(arguments.ids), arguments.reason, arguments.job)


def _list(arguments: argparse.Namespace) -> int:
    async def act(office: LetterOffice) -> int:
        listing = await office.listing(Choice(reason=arguments.reason, job=arguments.job))
        verdicts = await office.verdicts(listing.letters)
        if arguments.json:
            _print_json([as_json(each, verdicts[each.message_id]) for each in listing.letters])
        else:
            _print(_table(listing, verdicts, long=arguments.long))
        return _said_of_reading(listing.reading)

    return _run(arguments, act, offline=arguments.offline)


def _show(arguments: argparse.Namespace) -> int:
    async def act(office: LetterOffice) -> int:
        shown = await office.show(arguments.id)
        if shown is None:
            _note(
                f"error: there is no dead letter {arguments.id}: 'dead-letters list' shows those "
                "there are"
            )
            return 1
        letter = shown.letter
        now = (await office.verdicts([letter]))[letter.message_id]
        if arguments.json:
            _print_json([as_json(letter, now) | {"body": shown.body}])
        else:
            _print([*_fields(letter, now), "", _pretty(shown.body)])
        return 0

    return _run(arguments, act, offline=arguments.offline)


def _redrive(arguments: argparse.Namespace) -> int:
    choice = _choice_of(arguments)

    async def act(office: LetterOffice) -> int:
        if arguments.dry_run:
            listing = await office.listing(choice)
            would = [each for each in listing.letters if choice.takes_for_redrive(each)]
            _print_json(map(as_json, would)) if arguments.json else _print(_would_be_sent(would))
            return _missing(choice, [each.message_id for each in would])
        back = await office.redrive(choice, Method(arguments.method))
        _print_json([_back_as_json(back)]) if arguments.json else _print(_said_of_back(back))
        status = _missing(choice, [*back.copied.sent, *back.copied.refused])
        return max(status, _said_of_reading(back.reading), int(bool(back.copied.refused)))

    return _run(arguments, act, offline=True)


def _purge(arguments: argparse.Namespace) -> int:
    choice = _choice_of(arguments)
    if not (arguments.yes or sys.stdin.isatty()):
        raise SetupFault("nobody can be asked here: add --yes to delete without being asked")

    async def act(office: LetterOffice) -> int:
        listing = await office.listing(choice)
        ids = [each.message_id for each in listing.letters]
        status = _missing(choice, ids)
        if not ids:
            _print(() if arguments.json else ["nothing to delete"])
            return status
        if not arguments.yes and not await _confirmed(listing.letters):
            _note("nothing was deleted")
            return 1
        purged = await office.purge(ids)
        if arguments.json:
            gone = {"deleted": list(purged.deleted), "undeleted": list(purged.undeleted)}
            _print_json([gone])
        else:
            _print(_said_of_purge(purged, len(ids)))
        return max(status, _said_of_reading(purged.reading), int(len(purged.deleted) < len(ids)))

    return _run(arguments, act, offline=True)


def _run(
    arguments: argparse.Namespace,
    act: Callable[[LetterOffice], Awaitable[int]],
    *,
    offline: bool,
) -> int:
    settings = settings_of(arguments)
    configure_logging("error", "console")

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio.run made one; for the type checker
        if threading.current_thread() is threading.main_thread():
            # as Ctrl-C: what is hidden is made visible again
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with _opened(settings, offline=offline) as office:
            return await act(office)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:  # by SIGTERM
        return 128 + signal.SIGTERM


@asynccontextmanager
async def _opened(settings: Settings, *, offline: bool) -> AsyncIterator[LetterOffice]:
    progress = _Progress()
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(
            open_configured_clients(settings, pollers=POLLERS)
        )
        queue = SqsQueue(
            clients.sqs_polling,
            clients.sqs,
            settings.queue.url,
            dead_letter_url=settings.queue.dead_letter_url,
        )
        state = await queue.state()
        if state.dead_letter_url is None and state.dead_letter_fault is not None:
            raise state.dead_letter_fault
        letters = None
        if state.dead_letter_url is not None:
            letters = SqsDeadLetterQueue(clients.sqs_polling, clients.sqs, state.dead_letter_url)
        checkpoint = None
        if missing := checkpoint_is_missing(settings.checkpoint):
            _note(f"note: {missing}; it is left out")
        else:
            checkpoint = await open_checkpoint(
                settings.checkpoint, settings.target.target_place, create=False
            )
            stack.push_async_callback(checkpoint.aclose)
        home = Home(settings.aws.account_id, clients.region, clients.partition)
        jobs = None
        if not offline:
            home = await resolve_home(clients, settings.aws.account_id)
            jobs = training_jobs(settings, clients, home)
        yield LetterOffice(
            queue,
            state.arn,
            letters,
            found_by_policy=settings.queue.dead_letter_url is None,
            checkpoint=checkpoint,
            home=home,
            jobs=jobs,
            rules=flow_rules(settings),
            on_read=progress.read,
            on_move=progress.moved,
        )


class _Progress:
    """Says on standard error how far a long operation is."""

    def __init__(self) -> None:
        self._said = 0

    def read(self, letters: int) -> None:
        if letters - self._said >= _PROGRESS_EVERY:
            self._said = letters
            _note(f"{letters} letters so far")

    def moved(self, task: MoveTask) -> None:
        of = "" if task.to_move is None else f" of {task.to_move}"
        _note(f"move task {task.status}: {task.moved}{of} messages")


async def _confirmed(letters: Sequence[Letter]) -> bool:
    for group in groups_of(letters):
        _note(f"{len(group.letters):6}  {group.reason}")
    question = f"Delete {_count(len(letters), 'dead letter')} for good? [y/N] "
    answer = await asyncio.to_thread(input, question)
    return answer.strip().lower() in {"y", "yes"}


def _missing(choice: Choice, found: Sequence[str]) -> int:
    """Exit status 1 if a letter that was named is not there."""
    missing = [message_id for message_id in choice.ids if message_id not in found]
    for message_id in missing:
        _note(
            f"error: there is no dead letter {message_id}: 'dead-letters list' shows those there "
            "are"
        )
    return int(bool(missing))


def _said_of_reading(reading: Reading | None) -> int:
    if reading is None:
        return 0
    if not reading.complete:
        _note(f"note: there are more than {reading.seen} letters; the rest was not looked at")
    if reading.still_hidden:
        _note(
            f"error: {_count(reading.still_hidden, 'letter')} could not be made visible again; "
            f"they are by themselves within {reading.hidden_seconds} s"
        )
    return int(bool(reading.still_hidden))


def _table(listing: Listing, verdicts: Mapping[str, Verdict], *, long: bool) -> Iterator[str]:
    letters = listing.letters
    kept = sum(letter.place is Place.CHECKPOINT for letter in letters)
    if listing.reading is None:
        kept_words = f"{_count(kept, 'message')} kept in the checkpoint"
        yield f"the queue has no dead-letter queue; {kept_words}"
    else:
        where = f", {kept} of them kept in the checkpoint" if kept else ""
        yield f"{_count(len(letters), 'dead letter')}{where}"
    for group in groups_of(letters):
        yield ""
        yield _heading(group)
        shown = group.letters if long else group.letters[-_SHOWN_OF_A_GROUP:]
        for letter in shown:
            yield f"  {letter.message_id}  {_when(letter.sent_at)}  {letter.job or '(no job)'}"
            if letter.detail:
                yield f"      was: {letter.detail}"
            yield f"      now: {verdicts[letter.message_id].text}"
        if len(shown) < len(group.letters):
            yield (
                f"  and {len(group.letters) - len(shown)} more: dead-letters list --reason "
                f"{group.reason} --long"
            )


def _heading(group: Group) -> str:
    jobs = f" of {_count(group.jobs, 'job')}" if group.jobs else ""
    span = f"{_when(group.first)} to {_when(group.last)}"
    if group.first == group.last:
        span = _when(group.last)
    return f"{group.reason}: {_count(len(group.letters), 'letter')}{jobs}, {span}"


def _fields(letter: Letter, now: Verdict) -> Iterator[str]:
    attributes = ", ".join(f"{name}={value}" for name, value in letter.attributes.items())
    fields = {
        "message": letter.message_id,
        "where": "the checkpoint" if letter.place is Place.CHECKPOINT else "the dead-letter queue",
        "about": {
            About.JOB: "a training job",
            About.UNREADABLE: "a body that the daemon cannot read",
            About.OTHER: "something that is not this daemon's",
        }[letter.about],
        "job": letter.job_arn or letter.job,
        "reason": letter.reason,
        "detail": letter.detail,
        "sent": _when(letter.sent_at),
        "first received": _when(letter.first_received_at),
        "receives": str(letter.receives or ""),
        "attributes": attributes,
        "note": letter.note,
        "now": now.text,
    }
    for name, value in fields.items():
        if value:
            yield f"{name + ':':<16}{value}"


def _would_be_sent(letters: Sequence[Letter]) -> Iterator[str]:
    for letter in letters:
        what = letter.job or letter.detail or letter.about.value
        cannot = f"  cannot be sent: {letter.note}" if letter.note else ""
        yield f"{letter.message_id}  {letter.reason}  {what}{cannot}"
    sendable = sum(not letter.note for letter in letters)
    yield f"{_count(sendable, 'letter')} would be sent back; nothing was changed"


def _said_of_back(back: Back) -> Iterator[str]:
    copied = back.copied
    if back.why_copied:
        yield f"copied, not moved by SQS: {back.why_copied}"
    if back.moved is not None:
        yield f"SQS has moved {_count(back.moved.moved, 'letter')} back to the queue"
    if back.moved is None or copied.sent or copied.refused:
        yield f"{_count(len(copied.sent), 'letter')} sent back to the queue"
    if copied.undeleted:
        yield (
            f"{_count(len(copied.undeleted), 'letter')} of these could not be deleted: sent back "
            "again, they end as duplicates"
        )
    if copied.came_back:
        back_again = _count(copied.came_back, "letter")
        yield f"{back_again} came back at once, rejected again: 'dead-letters list' says why"
    for message_id, why in copied.refused.items():
        yield f"not sent: {message_id}: {why}"


def _back_as_json(back: Back) -> dict[str, Any]:
    copied = back.copied
    return {
        "sent": copied.sent,
        "undeleted": copied.undeleted,
        "refused": copied.refused,
        "came_back": copied.came_back,
        "moved": None if back.moved is None else back.moved.moved,
        "why_copied": back.why_copied,
    }


def _said_of_purge(purged: Purged, wanted: int) -> Iterator[str]:
    yield f"{_count(len(purged.deleted), 'dead letter')} deleted"
    left = wanted - len(purged.deleted)
    if left:
        yield f"{_count(left, 'letter')} not deleted: gone meanwhile, or in somebody else's hands"


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _when(epoch_seconds: float | None) -> str:
    if epoch_seconds is None:
        return ""
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%SZ}"


def _print(lines: Sequence[str] | Iterator[str]) -> None:
    for line in lines:
        print("\n".join(map(printable, line.split("\n"))))


def _print_json(objects: Any) -> None:  # noqa: ANN401 - any iterable of JSON objects
    for each in objects:
        print(json.dumps(each))


def _note(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)

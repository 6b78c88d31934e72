"""Spans of what happens to a study, from its C-STORE to an answer, sent by OpenTelemetry where ``traces_url`` is set.

The trace id of a study is made from its UID as the trace of the logs is (whose 16 digits it begins with), so no process
has to hand it to another, and it does not reveal the study. A span has a name and attributes out of fixed sets: route
templates, codes, numbers (P7). A request that brings a W3C ``traceparent`` continues its caller's trace, with a link to
the study's.

Without the setting OpenTelemetry is not even imported, and a span costs a comparison.
"""

from __future__ import annotations

import contextvars
import hashlib
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from radir_pacs import __version__
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, SpanContext, Tracer
    from opentelemetry.trace import Span as Spanned

ATTRIBUTES = frozenset({"attempt", "kind", "method", "outcome", "route", "status", "bytes", "images"})
_EXPORT_S, _QUEUE, _END_S = 1.0, 4096, 2.0

_current: contextvars.ContextVar[Span | None] = contextvars.ContextVar("radir_span", default=None)
_wanted: contextvars.ContextVar[int] = contextvars.ContextVar("radir_trace_id", default=0)
_on: list[tuple[Tracer, TracerProvider]] = []


def trace_id_of(study_uid: str) -> int:
    """The 128 bits of a study's trace."""
    return int(hashlib.sha256(study_uid.encode("utf-8", "replace")).hexdigest()[:32], 16)


class Span:
    """Something that takes time. As a context manager, what begins in it on the same thread is a part of it."""

    __slots__ = ("_before", "_spanned")

    def __init__(self, spanned: Spanned | None = None) -> None:
        self._spanned = spanned
        self._before: Span | None = None

    def end(self, *, failed: bool = False, **attributes: str | float) -> None:
        """``failed``: marks it as an error; the reason is an attribute, never a text. Ending twice does nothing."""
        if self._spanned is None:
            return
        from opentelemetry.trace import StatusCode

        for name, value in attributes.items():
            self._spanned.set_attribute(name, value)
        if failed:
            self._spanned.set_status(StatusCode.ERROR)
        self._spanned.end()
        self._spanned = None

    def __enter__(self) -> Self:
        if self._spanned is not None:
            self._before = _current.get()
            _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _current.get() is self:  # a request may end on another thread than it began
            _current.set(self._before)
        self.end(failed=error is not None)


OFF = Span()  # of what is not traced


def begin(settings: Settings, process: str) -> None:
    """Send spans from now on, if the settings say so. Raises SettingError where OpenTelemetry is not installed."""
    if not settings.traces_url:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError:
        raise SettingError("traces_url: needs OpenTelemetry, the extra 'traces' of radir-pacs") from None

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _wanted.get() or super().generate_trace_id()

    share = TraceIdRatioBased(settings.traces_share)  # also of the traces of callers, who would else choose it
    provider = TracerProvider(
        resource=Resource.create(
            {"service.name": "radir", "service.version": __version__, "service.instance.id": process}
        ),
        id_generator=Ids(),
        sampler=ParentBased(share, remote_parent_sampled=share),  # by trace id: all roles keep the same studies
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=5)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=_QUEUE, schedule_delay_millis=int(_EXPORT_S * 1000))
    )
    _on[:] = [(provider.get_tracer("radir_pacs", __version__), provider)]


def end() -> None:
    """The process ends: send what waits, within two seconds."""
    while _on:
        _, provider = _on.pop()
        flush = threading.Thread(target=provider.force_flush, daemon=True)  # it has no limit of its own
        flush.start()
        flush.join(_END_S)


def start(
    name: str, study_uid: str = "", *, parent: Span | None = None, traceparent: str = "", began_s: float | None = None
) -> Span:
    """A span that begins now, or at ``began_s`` of the wall clock; it must be ended.

    It is a part of ``parent``, else of the span around it, else of the caller's trace, else stands in the study's; what
    would belong to none of them is not traced.
    """
    if not _on:
        return OFF
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = parent or _current.get()
    context = trace.set_span_in_context(above._spanned) if above is not None and above._spanned is not None else None
    links: list[Link] = []
    if context is None and traceparent:
        given = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
        if trace.get_current_span(given).get_span_context().is_valid:
            context = given
            links = [trace.Link(_of_study(study_uid))] if study_uid else []
    if context is None and not study_uid:
        return OFF
    token = _wanted.set(trace_id_of(study_uid) if study_uid and context is None else 0)
    try:
        tracer, _ = _on[0]
        spanned = tracer.start_span(
            name,
            context=context or trace.set_span_in_context(trace.INVALID_SPAN),
            links=links,
            start_time=None if began_s is None else int(began_s * 1e9),
            record_exception=False,  # its text may quote a patient
            set_status_on_exception=False,
        )
    finally:
        _wanted.reset(token)
    return Span(spanned)


def record(
    name: str, took_s: float, study_uid: str = "", *, parent: Span | None = None, **attributes: str | float
) -> None:
    """A span that ended just now."""
    if _on:
        start(name, study_uid, parent=parent, began_s=time.time() - took_s).end(failed=False, **attributes)


def _of_study(study_uid: str) -> SpanContext:
    """Something to link to: the study's trace, at a span that nobody sends."""
    from opentelemetry.trace import SpanContext, TraceFlags

    digest = hashlib.sha256(study_uid.encode("utf-8", "replace")).digest()
    return SpanContext(trace_id_of(study_uid), int.from_bytes(digest[16:24]) or 1, True, TraceFlags(1))

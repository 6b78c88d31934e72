"""``radir peers add|list|remove|echo``: DICOM peers that may call, and whether they answer."""

from __future__ import annotations

import argparse
import ipaddress
import re
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from radir_pacs import config
from radir_pacs.catalogue import Catalogue, Peer
from radir_pacs.cli.caller import caller
from radir_pacs.cli.output import errors, out, print_json, say
from radir_pacs.cli.state import must_run
from radir_pacs.config import Settings
from radir_pacs.delivery.destination import Destination
from radir_pacs.delivery.echo import echo
from radir_pacs.errors import BadInput, NotFound, PeerFailed
from radir_pacs.scopes import SITE_LABEL

_ANYWHERE = "::/0"
_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")  # PS3.5 6.2, AE
_CERTIFICATE = re.compile(r"sha256:[0-9a-f]{64}|CN=[ -~]{1,64}")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "peers",
        help="DICOM peers that may call, and whether they answer",
        description="While nobody is named here or in calling_ae_titles, this machine alone may call; from the first"
        " name on, only those that are named. Every listener follows within a second or two.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="let a peer call")
    add.add_argument("--from", dest="network", metavar="NETWORK", help="its address or network; default: anywhere")
    add.add_argument("--certificate", metavar="WHICH", help="of its TLS connection: sha256:FINGERPRINT or CN=NAME")
    add.add_argument("--site", metavar="LABEL", help="of what it sends; tokens may be confined to sites")
    add.add_argument("--no-store", action="store_true", help="it may not store")
    add.add_argument("--no-commitment", action="store_true", help="it gets no storage commitment")
    add.add_argument("--at", metavar="HOST:PORT", help="where it is called itself, for 'radir peers echo'")
    add.add_argument("--tls", action="store_true", help="it is called over TLS")
    listed = actions.add_parser("list", help="every peer")
    remove = actions.add_parser("remove", help="let a peer call no more")
    remove.add_argument("--from", dest="network", metavar="NETWORK", help="only what was added with this network")
    asked = actions.add_parser("echo", help="send a C-ECHO to a peer, or to all that say where they are")
    for action in (add, remove):
        action.add_argument("title", help="its AE title")
    asked.add_argument("title", nargs="?", help="its AE title; default: all")
    for action in (add, listed, remove, asked):
        action.add_argument("--json", action="store_true", help="for machines")
        config.add_flags(action)
        action.set_defaults(run=run, needs_settings=True)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Exit code 1 when a peer did not answer its C-ECHO."""
    must_run(settings)
    with Catalogue.open(settings) as catalogue:
        match args.action:
            case "add":
                peer = _peer(args)
                if peer.certificate and not settings.listener_tls_client_ca:
                    errors.print("listener_tls_client_ca is not set: no certificate is asked for, and it cannot call")
                catalogue.peers.add(peer, by=caller())
                say({"added": peer.ae_title}, f"{peer.ae_title} may call from {_where(peer)}", as_json=args.json)
            case "remove":
                network = _network(args.network) if args.network else None
                count = catalogue.peers.remove(args.title, network, by=caller())
                say({"removed": args.title, "rows": count}, f"{args.title} may call no more", as_json=args.json)
                if not catalogue.peers.all() and not settings.calling_ae_titles:
                    errors.print("no peer is named any more: this machine alone may call")
            case "echo":
                return _echo(args, settings, catalogue.peers.all())
            case _:
                _list(args, catalogue.peers.all())
    return 0


def _peer(args: argparse.Namespace) -> Peer:
    if not _TITLE.fullmatch(args.title):
        raise BadInput("an AE title has 1 to 16 characters of ASCII without a backslash")
    if args.certificate and not _CERTIFICATE.fullmatch(args.certificate):
        raise BadInput("--certificate is sha256: and 64 lower-case hex digits, or CN= and a name")
    if args.site is not None and not SITE_LABEL.fullmatch(args.site):
        raise BadInput("a site has at most 64 characters of ASCII without a backslash")
    at = _called_at(args.title, args.at) if args.at else None
    return Peer(
        ae_title=args.title,
        network=_network(args.network) if args.network else _ANYWHERE,
        certificate=args.certificate,
        may_store=not args.no_store,
        may_commit=not args.no_commitment,
        site=args.site,
        host=at.host if at else None,
        port=at.port if at else None,
        over_tls=args.tls,
    )


def _called_at(title: str, text: str) -> Destination:
    try:
        return Destination.parse(f"{title}@{text}")
    except BadInput:
        raise BadInput(f"--at: {text!r} is not HOST:PORT") from None


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise BadInput(f"{text!r} is no address or network, such as 10.1.2.3 or 10.1.2.0/24") from None


def _echo(args: argparse.Namespace, settings: Settings, peers: tuple[Peer, ...]) -> int:
    found = [peer for peer in peers if args.title in (None, peer.ae_title)]
    if not found:
        raise NotFound(f"no peer {args.title!r} is known" if args.title else "no peer is known")
    told = []
    for peer in found:
        why = "it is not said where it is called (--at)" if peer.host is None else _failure(peer, settings)
        told.append({"peer": peer.ae_title, "answers": not why, "reason": why})
        if not args.json:
            out.print(f"{peer.ae_title} " + (why or "answers"), markup=False, soft_wrap=True)
    if args.json:
        print_json(told)
    return 0 if all(one["answers"] for one in told) else 1


def _failure(peer: Peer, settings: Settings) -> str:
    assert peer.host is not None and peer.port is not None
    destination = Destination(ae_title=peer.ae_title, host=peer.host, port=peer.port)
    try:
        echo(destination, settings, over_tls=peer.over_tls)
    except PeerFailed as error:
        return str(error)
    return ""


def _list(args: argparse.Namespace, peers: tuple[Peer, ...]) -> None:
    if args.json:
        print_json([asdict(peer) for peer in peers])
        return
    table = Table("title", "from", "certificate", "may", "site", "called at", box=box.SIMPLE)
    for peer in peers:
        may = [word for word, is_so in (("store", peer.may_store), ("commitment", peer.may_commit)) if is_so]
        at = f"{peer.host}:{peer.port}{' (TLS)' if peer.over_tls else ''}" if peer.host else ""
        cells = (peer.ae_title, _where(peer), peer.certificate or "", ", ".join(may), peer.site or "", at)
        table.add_row(*map(Text, cells))
    out.print(table if peers else "no peer is named; radir peers add TITLE")


def _where(peer: Peer) -> str:
    return "anywhere" if peer.network == _ANYWHERE else peer.network

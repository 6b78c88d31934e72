"""Whether anybody could still administer if no local account did."""

from __future__ import annotations

from radir_pacs.access import provider_mapping
from radir_pacs.callers import Role
from radir_pacs.catalogue import AccessTokens
from radir_pacs.config import Settings
from radir_pacs.errors import SettingError


def may_be_without_account(settings: Settings, tokens: AccessTokens) -> bool:
    """Whether a token in force administers, one of the settings or by name, or the provider's groups give the role."""
    if settings.api_tokens or any(one.in_force and one.role is Role.ADMINISTRATOR for one in tokens.all()):
        return True
    if not settings.oidc_issuer:
        return False
    try:
        allowed = provider_mapping.load(settings.oidc_mapping)
    except SettingError:  # nobody signs in by it either
        return False
    return any(one.rights.role is Role.ADMINISTRATOR for one in allowed)

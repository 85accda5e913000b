"""How messages name tenants and count them."""

from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.models import Tenant
from tenants.templatetags.tenants_admin import foreign


def named(tenant: Tenant, sentence: str) -> SafeString:
    """Return the sentence after the tenant's name and id. The name may hold any characters."""
    return format_html("{} (tenant {}) {}", foreign(tenant), tenant.pk, sentence)


def counted(tenants: int) -> str:
    """Return the number of tenants: "1 tenant", "12 tenants"."""
    return "1 tenant" if tenants == 1 else f"{tenants:,} tenants"

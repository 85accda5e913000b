"""Writes of models that the example app does not have: other keys, other paths, generic relations."""

from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from tenants.models import Tenant
from tenants.scoping import CrossTenantWrite, TenantOwnedModel, TenantScopedManager, tenant_context
from tests.tenants.temporary_models import table_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def unusual() -> Iterator[Any]:
    """Models that exist for one test only."""

    class Note(TenantOwnedModel):
        content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, null=True, related_name="+")
        object_id = models.UUIDField(null=True)
        subject = GenericForeignKey()

        class Meta:
            app_label = "invoicing"

        def __str__(self) -> str:
            return "a note"

    class Folder(TenantOwnedModel):
        id = models.UUIDField(primary_key=True, default=uuid4)
        root = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="+")
        notes = GenericRelation(Note)

        class Meta:
            app_label = "invoicing"

        def __str__(self) -> str:
            return "a folder"

    class Document(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid4)
        folder = models.ForeignKey(Folder, on_delete=models.CASCADE, related_name="+")
        text = models.TextField(default="")

        objects: ClassVar[Any] = TenantScopedManager("folder__tenant")
        unscoped: ClassVar[Any] = models.Manager()

        class Meta:
            app_label = "invoicing"

        def __str__(self) -> str:
            return "a document"

    class Plan(models.Model):
        company = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
        text = models.TextField(default="")

        objects: ClassVar[Any] = TenantScopedManager("company")
        unscoped: ClassVar[Any] = models.Manager()

        class Meta:
            app_label = "invoicing"

        def __str__(self) -> str:
            return "a plan"

    class Archived(models.Model):
        is_archived = models.BooleanField(default=False)

        class Meta:
            abstract = True

        def delete(self, *args: Any, **kwargs: Any) -> Any:
            self.is_archived = True
            self.save()
            return 0, {}

    class Contract(TenantOwnedModel, Archived):
        class Meta:
            app_label = "invoicing"

        def __str__(self) -> str:
            return "a contract"

    made: list[type[models.Model]] = [Note, Folder, Document, Plan, Contract]
    with ExitStack() as tables:
        for model in made:
            tables.enter_context(table_of(model))
        yield SimpleNamespace(**{model.__name__: model for model in made})
    ContentType.objects.clear_cache()


def test_row_that_refers_to_itself_by_its_id_is_saved(unusual: Any, acme: Tenant, globex: Tenant) -> None:
    with tenant_context(globex):
        foreign = unusual.Folder.objects.create()
    with tenant_context(acme):
        key = uuid4()
        unusual.Folder(pk=key, root_id=key).save()
        unusual.Folder.objects.get(pk=key).save()

        with pytest.raises(CrossTenantWrite, match="root"):
            unusual.Folder(pk=uuid4(), root_id=foreign.pk).save()
        with pytest.raises(CrossTenantWrite):
            unusual.Folder(pk=foreign.pk, root_id=foreign.pk).save(force_update=True)

    assert unusual.Folder.unscoped.get(pk=foreign.pk).root is None


def test_save_by_a_path_checks_the_stored_row_if_django_sends_an_update(
    unusual: Any, acme: Tenant, globex: Tenant
) -> None:
    with tenant_context(globex):
        foreign = unusual.Document.objects.create(folder=unusual.Folder.objects.create())
    with tenant_context(acme):
        own = unusual.Document(folder=unusual.Folder.objects.create())
        for statements in (1, 2):
            with CaptureQueriesContext(connection) as taken:
                own.save()
            assert len([query for query in taken if "invoicing_document" in query["sql"]]) == statements

        with pytest.raises(CrossTenantWrite):
            unusual.Document(pk=foreign.pk, folder=own.folder, text="X").save(force_update=True)

    assert unusual.Document.unscoped.filter(pk=foreign.pk, text="", folder=foreign.folder).exists()


def test_save_by_a_foreign_key_of_another_name_checks_the_stored_row(
    unusual: Any, acme: Tenant, globex: Tenant
) -> None:
    with tenant_context(globex):
        foreign = unusual.Plan.objects.create()
    with tenant_context(acme):
        own = unusual.Plan.objects.create()
        own.save()
        with pytest.raises(CrossTenantWrite):
            unusual.Plan(pk=foreign.pk, text="X").save()

    assert unusual.Plan.unscoped.filter(pk=foreign.pk, text="", company=globex).exists()


def test_deletion_calls_the_method_of_the_next_base_class(unusual: Any, acme: Tenant, globex: Tenant) -> None:
    with tenant_context(globex):
        foreign = unusual.Contract.objects.create()
    with tenant_context(acme):
        unusual.Contract.objects.create().delete()
        with pytest.raises(CrossTenantWrite):
            unusual.Contract(pk=foreign.pk).delete()

    archived = unusual.Contract.unscoped.order_by("pk").values_list("tenant", "is_archived")
    assert set(archived) == {(acme.pk, True), (globex.pk, False)}


@pytest.mark.parametrize("count", [1, 3, 9])
def test_addition_to_a_generic_relation_refuses_another_tenant_s_row(
    unusual: Any, acme: Tenant, globex: Tenant, count: int
) -> None:
    with tenant_context(globex):
        foreign = unusual.Note.objects.create()
    with tenant_context(acme):
        folder = unusual.Folder.objects.create()
        own = unusual.Note.objects.bulk_create(unusual.Note() for _ in range(count))
        folder.notes.add(*own)
        with pytest.raises(CrossTenantWrite):
            folder.notes.add(*own, foreign)
        with pytest.raises(CrossTenantWrite):
            folder.notes.set([foreign])

        assert folder.notes.count() == count
    foreign.refresh_from_db()
    assert foreign.subject is None

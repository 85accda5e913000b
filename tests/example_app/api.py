"""Invoices and lines over DRF."""

from typing import Any

from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.filters import OrderingFilter, SearchFilter
from rest_framework.parsers import JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ModelViewSet

from tenants.api.authentication import ClerkSessionAuthentication
from tenants.scoping import (
    HasOrgPermission,
    HasOrgRole,
    IsTenantAdmin,
    IsTenantMember,
    TenantScopedViewSetMixin,
)
from tests.example_app.models import Invoice, InvoiceLine
from tests.example_app.tasks import remind


class LineSerializer(serializers.ModelSerializer[InvoiceLine]):
    class Meta:
        model = InvoiceLine
        fields = ("id", "invoice", "text", "amount")


class NestedLineSerializer(serializers.ModelSerializer[InvoiceLine]):
    class Meta:
        model = InvoiceLine
        fields = ("text", "amount")


class InvoiceSerializer(serializers.ModelSerializer[Invoice]):
    lines = NestedLineSerializer(many=True, required=False)

    class Meta:
        model = Invoice
        fields = ("id", "number", "customer", "is_paid", "lines")

    def create(self, validated_data: dict[str, Any]) -> Invoice:
        lines = validated_data.pop("lines", [])
        invoice: Invoice = Invoice.objects.create(**validated_data)
        InvoiceLine.objects.bulk_create(InvoiceLine(invoice=invoice, **line) for line in lines)
        return invoice


class InvoiceViewSet(TenantScopedViewSetMixin, ModelViewSet[Invoice]):
    authentication_classes = (ClerkSessionAuthentication,)
    permission_classes = (IsTenantMember,)
    queryset = Invoice.objects.prefetch_related("lines")
    serializer_class = InvoiceSerializer
    parser_classes = (JSONParser, MultiPartParser)
    filter_backends = (SearchFilter, OrderingFilter)
    search_fields = ("number", "lines__text", "customer__name")
    ordering_fields = ("number", "customer__name")

    def get_permissions(self) -> Any:
        if self.action == "create":
            return [HasOrgPermission("org:invoices:create")]
        return [IsTenantAdmin()] if self.action == "destroy" else super().get_permissions()

    @action(detail=False, methods=["post"], permission_classes=[HasOrgRole("admin")])
    def mark_paid(self, request: Request) -> Response:
        """Mark the invoices with the given ids as paid, in one statement."""
        invoices = self.get_queryset().filter(pk__in=request.POST.getlist("id"))
        return Response({"paid": invoices.update(is_paid=True)})

    @action(detail=False, methods=["post"])
    def remind(self, request: Request) -> Response:
        """Let a worker send a reminder of an unpaid invoice."""
        remind.defer(invoice_id=int(request.POST["id"]))
        return Response(status=202)


class LineViewSet(TenantScopedViewSetMixin, ModelViewSet[InvoiceLine]):
    authentication_classes = (ClerkSessionAuthentication,)
    permission_classes = (IsTenantMember,)
    queryset = InvoiceLine.objects.all()
    serializer_class = LineSerializer


router = SimpleRouter(trailing_slash=False)
router.register("invoices", InvoiceViewSet)
router.register("lines", LineViewSet)

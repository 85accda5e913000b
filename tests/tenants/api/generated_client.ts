/** Calls every operation through the types of openapi-typescript, and prints the answers as JSON. */
import createClient from "openapi-fetch";
import type { components, paths } from "./api.ts";

declare const process: { argv: string[] };

type Schemas = components["schemas"];
type Tenant = Schemas["Tenant"];
type Errors = Schemas["ClientErrorResponse"] | Schemas["ValidationErrorResponse"] | Schemas["ServerErrorResponse"];

const [baseUrl, token, Cookie, csrfToken] = process.argv.slice(2) as [string, string, string, string];
const bearer = (value: string) => createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${value}` } });
const [user, forged, anonymous] = [bearer(token), bearer(`${token}x`), createClient<paths>({ baseUrl })];
const staff = createClient<paths>({ baseUrl, headers: { Cookie, "X-CSRFToken": csrfToken } });

function data<T>(result: { data?: T; error?: Errors; response: Response }): T {
  if (result.data === undefined) throw new Error(`${result.response.url}: ${JSON.stringify(result.error)}`);
  return result.data;
}

const refusals: [number, string | undefined][] = [];
function refuse(result: { error?: Errors; response: Response }): void {
  refusals.push([result.response.status, result.error?.errors[0]?.code]);
}

const body: Schemas["TenantCreateRequest"] = { name: "Acme", slug: "acme", makePrimary: true };
const tenant: Tenant = data(await user.POST("/api/v1/tenants/create", { body }));
const path = { id: tenant.id };
const organization = { clerk_org_id: tenant.clerkOrgId ?? "" };
const tenants: Tenant[] = [
  data(await user.PATCH("/api/v1/tenants/{id}", { params: { path }, body: { name: "Acme Ltd" } })),
  data(await user.GET("/api/v1/tenants/{id}", { params: { path } })),
  data(await user.GET("/api/v1/tenants/slug/{slug}", { params: { path: { slug: "acme" } } })),
  data(await user.GET("/api/v1/tenants/organization/{clerk_org_id}", { params: { path: organization } })),
  data(await user.PATCH("/api/v1/tenants/{id}/set-primary", { params: { path } })),
  data(await user.POST("/api/v1/tenants/{id}/sync", { params: { path } })),
  data(await user.POST("/api/v1/tenants/{id}/sync", { params: { path } })),
  ...data(await user.GET("/api/v1/tenants", { params: { query: { ordering: "-createdAt" } } })).results,
  ...data(await user.GET("/api/v1/tenants/me/get-tenants", { params: { query: { active_only: true } } })),
];
const primary: number = data(await user.GET("/api/v1/tenants/me/primary-id")).tenantId;
const members = data(await user.GET("/api/v1/tenants/{id}/members", { params: { path } })).results;
const history = data(await user.GET("/api/v1/tenants/{id}/history", { params: { path } })).results;

refuse(await anonymous.GET("/api/v1/tenants"));
refuse(await forged.GET("/api/v1/tenants/me/get-tenants"));
refuse(await user.DELETE("/api/v1/tenants/{id}", { params: { path } }));
refuse(await user.GET("/api/v1/tenants/{id}", { params: { path: { id: 0 } } }));
refuse(await user.GET("/api/v1/tenants/slug/{slug}", { params: { path: { slug: "unknown" } } }));
refuse(await user.GET("/api/v1/tenants", { headers: { Accept: "text/plain" } }));
refuse(await user.GET("/api/v1/tenants", { params: { query: { pageSize: 1000 } } }));
refuse(await user.POST("/api/v1/tenants/create", { body: { ...body, name: "" } }));
refuse(await staff.DELETE("/api/v1/tenants/{id}", { params: { path } }));
refuse(await user.POST("/api/v1/tenants/{id}/sync", { params: { path } }));

const closed: Tenant = data(await user.PATCH("/api/v1/tenants/{id}/deactivate", { params: { path } }));
const query = { deleteClerkOrganization: true };
const deletion = await staff.DELETE("/api/v1/tenants/{id}", { params: { path, query } });

console.log(
  JSON.stringify({
    tenants: tenants.map((one) => [one.id === tenant.id, one.name]),
    primary: primary === tenant.id,
    members: members.map((one) => one.clerkUserId),
    history: history.length > 0,
    statuses: [closed.status, deletion.response.status],
    refusals,
  }),
);

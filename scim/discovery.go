package scim

import (
	"encoding/json"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
)

// Schema URIs of the protocol's own messages and of discovery.
const (
	ListResponseURI          = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	ServiceProviderConfigURI = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
	ResourceTypeURI          = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
	SchemaURI                = "urn:ietf:params:scim:schemas:core:2.0:Schema"
)

// object is a JSON object that is built rarely; discovery is not a hot path.
type object = map[string]any

func metaOf(base, resourceType, path string) object {
	return object{"resourceType": resourceType, "location": base + path}
}

// serviceProviderConfig says what this server does (RFC 7643 §5). What depends on how a
// handler is set up is added by [Handler]: events, and the delta query.
func serviceProviderConfig(base string, by auth.Principal) object {
	config := object{
		"schemas":        []string{ServiceProviderConfigURI},
		"patch":          object{"supported": true},
		"bulk":           object{"supported": true, "maxOperations": MaxBulkOperations, "maxPayloadSize": MaxBody},
		"filter":         object{"supported": true, "maxResults": MaxCount},
		"changePassword": object{"supported": true},
		"sort":           object{"supported": true},
		"etag":           object{"supported": true},
		"pagination": object{"cursor": true, "index": true, "defaultPaginationMethod": "index",
			"defaultPageSize": MaxCount, "maxPageSize": MaxCount, "cursorTimeout": int(CursorLifetime.Seconds())},
		"authenticationSchemes": []object{{
			"type": "oauthbearertoken", "name": "OAuth Bearer Token", "primary": true,
			"description": "A bearer token (RFC 6750) made with \"roster client create\"",
			"specUri":     "https://www.rfc-editor.org/info/rfc6750",
		}},
		"meta": metaOf(base, "ServiceProviderConfig", "/ServiceProviderConfig"),
	}
	// draft-ietf-scim-roles-entitlements, for those who may read either: there are client
	// libraries that refuse a configuration with an attribute that they do not know.
	// types is left out: any text is one.
	if roles, entitlements := by.May(auth.Read, roleType), by.May(auth.Read, entitlementType); roles || entitlements {
		config["RolesAndEntitlements"] = object{
			"roles":        object{"supported": roles, "multipleRolesSupported": true, "primarySupported": true, "typeSupported": true},
			"entitlements": object{"supported": entitlements, "multipleEntitlementsSupported": true, "primarySupported": true, "typeSupported": true},
		}
	}
	return config
}

func resourceType(base string, t *schemas.ResourceType) object {
	extensions := []object{}
	for _, e := range t.Extensions {
		extensions = append(extensions, object{"schema": e.Schema.ID, "required": e.Required})
	}
	return object{
		"schemas": []string{ResourceTypeURI}, "id": t.Name, "name": t.Name, "description": t.Description,
		"endpoint": t.Endpoint, "schema": t.Schema.ID, "schemaExtensions": extensions,
		"meta": metaOf(base, "ResourceType", "/ResourceTypes/"+t.Name),
	}
}

func schema(base string, s *schemas.Schema) object {
	return object{
		"schemas": []string{SchemaURI}, "id": s.ID, "name": s.Name, "description": s.Description,
		"attributes": attributes(s.Attributes), "meta": metaOf(base, "Schema", "/Schemas/"+s.ID),
	}
}

// attributes describes attributes with every characteristic that applies to
// their type (RFC 7643 §7).
func attributes(defs []*schemas.Attribute) []object {
	out := []object{}
	for _, a := range defs {
		o := object{
			"name": a.Name, "type": a.Type.String(), "multiValued": a.MultiValued, "description": a.Description,
			"required": a.Required, "mutability": a.Mutability.String(), "returned": a.Returned.String(),
		}
		if a.Type == schemas.Complex {
			o["subAttributes"] = attributes(a.SubAttributes)
		}
		if a.Type != schemas.Complex && a.Type != schemas.Boolean {
			o["caseExact"], o["uniqueness"] = a.CaseExact, a.Uniqueness.String()
		}
		if len(a.CanonicalValues) > 0 {
			o["canonicalValues"] = a.CanonicalValues
		}
		if len(a.ReferenceTypes) > 0 {
			o["referenceTypes"] = a.ReferenceTypes
		}
		out = append(out, o)
	}
	return out
}

// discoveryList is a ListResponse that is never paged (RFC 7644 §4).
func discoveryList(resources []object) object {
	return object{
		"schemas": []string{ListResponseURI}, "totalResults": len(resources), "itemsPerPage": len(resources),
		"startIndex": 1, "Resources": resources,
	}
}

// marshal writes an object with its keys in the order of the alphabet, always the same.
func marshal(o object) ([]byte, error) { return json.Marshal(o) }

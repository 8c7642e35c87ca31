package scim

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// The manager of a user (RFC 7643 §4.3) is an id in its document. When that is
// the id of a user of the directory, $ref is made on the way out. Another one, which
// Okta may send, is shown as it was sent. There is no displayName: clients and compliance suites expect to read what
// they wrote.

// manager is a manager that exists, and where in the document it stands.
type manager struct {
	id         string // empty for none
	start, end int    // of the object
}

var (
	schemasKey    = []byte(`{"schemas":[`)
	enterpriseURI = []byte(`"` + schemas.EnterpriseUserURI + `"`)
	enterpriseKey = []byte(`"` + schemas.EnterpriseUserURI + `":{`)
)

// managerAttribute returns the manager of a resource type that has one.
func managerAttribute(t *schemas.ResourceType) *schemas.Attribute {
	if ext := t.Top(schemas.EnterpriseUserURI); ext != nil {
		return ext.Sub("manager")
	}
	return nil
}

// managers finds those of the resources' managers that exist, in the order of the
// resources; nil if there are none.
func (h *Handler) managers(ctx context.Context, by auth.Principal, t *schemas.ResourceType, resources []*storage.Resource) ([]manager, error) {
	if managerAttribute(t) == nil {
		return nil, nil
	}
	var list []manager
	var ids []string
	for i, r := range resources {
		m, ok := findManager(r.Doc)
		if !ok {
			continue
		}
		if list == nil {
			list = make([]manager, len(resources))
		}
		list[i] = m
		if !slices.Contains(ids, m.id) {
			ids = append(ids, m.id)
		}
	}
	if list == nil {
		return nil, nil
	}
	names, err := h.provider.Store.Names(ctx, by.Tenant, auth.PrincipalUser, ids...)
	if err != nil {
		return nil, err
	}
	for i, m := range list {
		if _, exists := names[m.id]; !exists {
			list[i] = manager{}
		}
	}
	return list, nil
}

// findManager finds the manager in a stored document, if it could be one of ours.
// It does not parse the document: users without the extension are passed over by
// what their schemas say, and others from the end, where extensions stand. Keys
// in quotes cannot be part of a value, in which quotes are escaped.
func findManager(doc []byte) (m manager, ok bool) {
	if bytes.HasPrefix(doc, schemasKey) {
		if end := bytes.IndexByte(doc, ']'); end < 0 || !bytes.Contains(doc[:end], enterpriseURI) {
			return m, false
		}
	}
	ext := len(doc)
	for ext > 0 && !bytes.HasSuffix(doc[:ext], enterpriseKey) {
		ext = 1 + bytes.LastIndexByte(doc[:ext-1], '{')
	}
	if ext == 0 {
		return m, false
	}
	m.start, m.end = member(doc, ext, "manager")
	if m.end-m.start < 2 || doc[m.start] != '{' {
		return m, false
	}
	start, end := member(doc, m.start+1, "value")
	if end-start < 2 {
		return m, false
	}
	m.id = string(doc[start+1 : end-1])
	return m, ours(m.id)
}

// member returns where the value of a name stands in the object whose first name
// is at i, as it is stored: without white space. It is empty when there is none.
func member(doc []byte, i int, name string) (start, end int) {
	for i < len(doc) && doc[i] == '"' {
		colon := skip(doc, i)
		end = skip(doc, colon+1)
		if string(doc[i+1:max(i+1, colon-1)]) == name {
			return min(colon+1, end), end
		}
		if i = end; i < len(doc) && doc[i] == ',' {
			i++
		}
	}
	return 0, 0
}

// skip returns where the name or value that begins at i has ended.
func skip(doc []byte, i int) int {
	depth := 0
	for ; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			for i++; i < len(doc) && doc[i] != '"'; i++ {
				if doc[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth--; depth < 0 {
				return i // of the object around a number, true or false
			}
		case ',':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return min(i+1, len(doc))
		}
	}
	return len(doc)
}

// manager appends the manager as it is shown when a document goes out as stored.
func (v view) manager(dst []byte, m manager) []byte {
	dst = append(dst, `{"value":"`...)
	dst = append(dst, m.id...)
	dst = append(dst, `","$ref":"`...)
	dst = append(append(dst, v.users...), m.id...)
	return append(dst, `"}`...)
}

// showManager does the same to a parsed document.
func (v view) showManager(attrs map[string]any, m manager) {
	ext, _ := attrs[schemas.EnterpriseUserURI].(map[string]any)
	if shown, ok := ext["manager"].(map[string]any); ok {
		shown["$ref"] = v.base + "/Users/" + m.id
	}
}

// dropManagerRef takes a $ref that says no more than the id from a tree before it
// is stored: a client that sends back what it read changes nothing, and no address
// of this server is kept. Where there is no id, and the $ref is not the one there was,
// the id is what it ends in.
func dropManagerRef(t *schemas.ResourceType, prev, attrs map[string]any) {
	if managerAttribute(t) == nil {
		return
	}
	id, ref, m := managerRef(attrs)
	if id == "" {
		users := strings.LastIndex(ref, usersSegment)
		if users < 0 || !ours(ref[users+len(usersSegment):]) {
			return
		}
		if _, was, _ := managerRef(prev); was == ref {
			return
		}
		id = ref[users+len(usersSegment):]
		m["value"] = id
	}
	if strings.HasSuffix(ref, "/"+id) {
		delete(m, "$ref")
	}
}

// usersSegment is what an id follows in the address of a user.
const usersSegment = "/Users/"

// managerRef returns the manager in an attribute tree, and the id and address in it.
func managerRef(attrs map[string]any) (id, ref string, m map[string]any) {
	ext, _ := attrs[schemas.EnterpriseUserURI].(map[string]any)
	m, _ = ext["manager"].(map[string]any)
	id, _ = m["value"].(string)
	ref, _ = m["$ref"].(string)
	return id, ref, m
}

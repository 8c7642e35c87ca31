package scim

import (
	"context"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Types returns the resource types of a tenant.
func (h *Handler) Types(ctx context.Context, tenant storage.TenantID) (*schemas.Set, error) {
	return h.provider.types(ctx, tenant)
}

// Represent returns a resource as an operator reads it who asks for no members, below the
// address base, with its external id and its version.
func (h *Handler) Represent(ctx context.Context, tenant storage.TenantID, base string, t *schemas.ResourceType, id string) (doc jsontext.Value, externalID string, version int64, err error) {
	by := auth.System(tenant)
	r, err := h.provider.get(ctx, by, t, id)
	if err != nil {
		return nil, "", 0, err
	}
	doc, err = h.document(ctx, by, viewFor(by, t, base, projectionRequest{excluded: []string{"members"}}), r)
	if err != nil {
		return nil, "", 0, err
	}
	var told struct {
		ExternalID string `json:"externalId"`
	}
	err = json.Unmarshal(doc, &told)
	return doc, told.ExternalID, r.Version, err
}

// document returns one resource as it is sent.
func (h *Handler) document(ctx context.Context, by auth.Principal, v view, r *storage.Resource) (jsontext.Value, error) {
	with, err := h.aroundOne(ctx, by, v.t, r)
	if err != nil {
		return nil, err
	}
	w := &memory{}
	s := newStream(w, http.StatusOK)
	if err := h.write(ctx, s, by, v, r, with); err != nil {
		return nil, s.fail(err)
	}
	err = s.close()
	return slices.Clip(w.body), err
}

// memory is a ResponseWriter for what is not sent, or not by itself.
type memory struct {
	body   []byte
	header http.Header
}

func (m *memory) Header() http.Header {
	if m.header == nil {
		m.header = http.Header{}
	}
	return m.header
}

func (m *memory) WriteHeader(int) {}

func (m *memory) Write(b []byte) (int, error) {
	m.body = append(m.body, b...)
	return len(b), nil
}

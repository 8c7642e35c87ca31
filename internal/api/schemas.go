package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

// Definitions keeps the schemas that tenants define; see scim.Provider.
type Definitions interface {
	Definitions(ctx context.Context, by auth.Principal) ([]*storage.Definition, error)
	Definition(ctx context.Context, by auth.Principal, urn string) (*storage.Definition, error)
	Define(ctx context.Context, by auth.Principal, list ...schemas.CustomSchema) error
	Redefine(ctx context.Context, by auth.Principal, next schemas.CustomSchema) error
	Undefine(ctx context.Context, by auth.Principal, urn string) error
}

// CustomSchemaList is schemas that a tenant defines.
type CustomSchemaList struct {
	Schemas []schemas.CustomSchema `json:"schemas"`
}

// Offender is a stored resource that a schema would not fit.
type Offender struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	Deleted bool   `json:"deleted,omitempty"`
	Detail  string `json:"detail"`
}

// What a schema may be: 200 attributes with all there is to say about them.
const maxSchemaBody = 512 << 10

var schemaLimits = schemas.Limits{Depth: 8, Tokens: 60_000}

func readSchema(r *http.Request) (c schemas.CustomSchema, err error) {
	return c, readUpTo(r, &c, maxSchemaBody, schemaLimits)
}

// pathURN is the URN in a path, whose colons some clients encode.
func pathURN(r *http.Request) (string, error) {
	urn, err := url.PathUnescape(pathID(r))
	if err != nil {
		return "", storage.ErrNotFound
	}
	return urn, nil
}

func (a *API) customSchemas(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, err := a.Definitions.Definitions(r.Context(), by)
	if err != nil {
		return err
	}
	out := CustomSchemaList{Schemas: []schemas.CustomSchema{}}
	for _, d := range list {
		out.Schemas = append(out.Schemas, d.CustomSchema)
	}
	return respond(w, http.StatusOK, out)
}

func (a *API) customSchema(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	urn, err := pathURN(r)
	if err != nil {
		return err
	}
	d, err := a.Definitions.Definition(r.Context(), by, urn)
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, d.CustomSchema)
}

func (a *API) defineSchema(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	c, err := readSchema(r)
	if err != nil {
		return err
	}
	if err := a.Definitions.Define(r.Context(), by, c); err != nil {
		return err
	}
	c.Tidy()
	w.Header().Set("Location", AdminBase+"/schemas/"+c.Schema.ID)
	return respond(w, http.StatusCreated, c)
}

func (a *API) redefineSchema(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	urn, err := pathURN(r)
	if err != nil {
		return err
	}
	c, err := readSchema(r)
	if err != nil {
		return err
	}
	if c.Key() != schemas.SchemaKey(urn) {
		return invalid("schema.id: expected the URN in the path")
	}
	if err := a.Definitions.Redefine(r.Context(), by, c); err != nil {
		return err
	}
	c.Tidy()
	return respond(w, http.StatusOK, c)
}

func (a *API) undefineSchema(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	urn, err := pathURN(r)
	if err != nil {
		return err
	}
	if err := a.Definitions.Undefine(r.Context(), by, urn); err != nil {
		return err
	}
	return done(w)
}

func (a *API) addSchemaPack(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	list, ok := schemas.Pack(pathID(r))
	if !ok {
		return storage.ErrNotFound
	}
	if err := a.Definitions.Define(r.Context(), by, list...); err != nil {
		return err
	}
	return respond(w, http.StatusCreated, CustomSchemaList{Schemas: list})
}

// offending lists what would not fit.
func offending(e *scim.OffendersError) *Problem {
	p := &Problem{Type: TypeOffenders, Title: "Stored resources would not fit the schema", Status: http.StatusConflict, Count: e.Count,
		Detail: fmt.Sprintf("%d stored resources would not fit: change or remove these first", e.Count)}
	for _, o := range e.Offenders {
		p.Offenders = append(p.Offenders, Offender{o.Type, o.ID, o.Deleted, o.Msg})
	}
	return p
}

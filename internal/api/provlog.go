package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/internal/provlog"
)

// ProvisioningLog is a page of requests of clients, the newest first.
type ProvisioningLog struct {
	Requests []ProvisioningRequest `json:"requests"`
	// Next is the "after" of the next page, if there is more.
	Next string `json:"next,omitempty"`
}

// ProvisioningRequest is a request of a client, without any value that it sent.
type ProvisioningRequest struct {
	ID           string          `json:"id"`
	RequestID    string          `json:"requestId"`
	At           time.Time       `json:"at"`
	Client       string          `json:"client"`
	Method       string          `json:"method"`
	Route        string          `json:"route"`
	Status       int             `json:"status"`
	Refused      bool            `json:"refused"`
	Milliseconds int64           `json:"milliseconds"`
	ResourceType string          `json:"resourceType,omitempty"`
	ResourceID   string          `json:"resourceId,omitempty"`
	Query        string          `json:"query,omitempty"`
	Body         json.RawMessage `json:"body,omitempty"`
	Operations   int             `json:"operations,omitempty"`
	Failed       int             `json:"failed,omitempty"`
	Omitted      int             `json:"omitted,omitempty"`
	Failures     []Refusal       `json:"failures,omitempty"`
}

// Refusal is why a request, or an operation of a bulk request, was refused.
type Refusal struct {
	Status        int             `json:"status"`
	ScimType      string          `json:"scimType,omitempty"`
	Detail        string          `json:"detail,omitempty"`
	Attribute     string          `json:"attribute,omitempty"`
	Operation     *int            `json:"operation,omitempty"`
	Offset        *int            `json:"offset,omitempty"`
	BulkOperation *int            `json:"bulkOperation,omitempty"`
	Method        string          `json:"method,omitempty"`
	ResourceType  string          `json:"resourceType,omitempty"`
	ResourceID    string          `json:"resourceId,omitempty"`
	Body          json.RawMessage `json:"body,omitempty"`
	Meaning       string          `json:"meaning"`
	Reference     string          `json:"reference"`
	Tolerated     []string        `json:"tolerated,omitempty"`
}

var provisioningParameters = []string{"client", "refused", "resourceType", "resourceId", "since", "after", "limit"}

func (a *API) provisioningLog(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	values, err := parameters(r, provisioningParameters...)
	if err != nil {
		return err
	}
	q := provlog.Query{Client: values.Get("client"), Type: values.Get("resourceType"), ID: values.Get("resourceId"), After: values.Get("after")}
	switch values.Get("refused") {
	case "", "false":
	case "true":
		q.Refused = true
	default:
		return invalid("refused: expected true or false")
	}
	if q.Since, err = instant(values, "since"); err != nil {
		return err
	}
	if q.Limit, err = number(values, "limit", 0, 1, 1000); err != nil {
		return err
	}
	if q.After != "" && uuid.Validate(q.After) != nil {
		return invalid("after: expected the next of a page")
	}
	if q.Client != "" {
		if _, err := a.Clients.Find(r.Context(), by, q.Client); err != nil {
			return err
		}
	}
	list, next, err := provlog.Search(r.Context(), a.Store, by.Tenant, a.Now(), q)
	if err != nil {
		return err
	}
	out := ProvisioningLog{Requests: make([]ProvisioningRequest, len(list)), Next: next}
	for i, e := range list {
		out.Requests[i] = provisioningRequest(e)
	}
	return respond(w, http.StatusOK, out)
}

// whyRefused finds a request by the id that the client was told.
func (a *API) whyRefused(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	e, err := provlog.Find(r.Context(), a.Store, by.Tenant, a.Now(), pathID(r))
	if err != nil {
		return err
	}
	return respond(w, http.StatusOK, provisioningRequest(e))
}

func provisioningRequest(e *provlog.Entry) ProvisioningRequest {
	out := ProvisioningRequest{
		ID: e.ID, RequestID: e.RequestID, At: e.At, Client: e.Client, Method: e.Method, Route: e.Route, Status: e.Status, Refused: e.Refused,
		Milliseconds: e.Milliseconds, ResourceType: e.ResourceType, ResourceID: e.ResourceID, Query: e.Query, Body: json.RawMessage(e.Body),
		Operations: e.Operations, Failed: e.Failed, Omitted: e.Omitted,
	}
	for i, why := range e.Why() {
		f := e.Failures[i]
		out.Failures = append(out.Failures, Refusal{
			Status: f.Status, ScimType: string(f.Type), Detail: f.Detail, Attribute: f.Attribute, Operation: f.Operation, Offset: f.Offset,
			BulkOperation: f.Bulk, Method: f.Method, ResourceType: f.ResourceType, ResourceID: f.ResourceID, Body: json.RawMessage(f.Body),
			Meaning: why.Meaning, Reference: why.Reference, Tolerated: why.Tolerated,
		})
	}
	return out
}

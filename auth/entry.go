package auth

import (
	"context"
	"net/netip"
	"time"

	"github.com/roster-id/roster/storage"
)

type requestIDKey struct{}

// WithRequestID returns a context in which what is done is audited under this id.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id given with WithRequestID, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// Entry returns the audit entry of what p did to the record of a type with an id: who,
// from where, at what level, and in which request. The time is cut to milliseconds, as
// stored.
func (p Principal) Entry(ctx context.Context, at time.Time, action, typ, id string) storage.AuditEntry {
	e := storage.AuditEntry{
		At: storage.Milli(at), RequestID: RequestID(ctx), Actor: p.Actor(), From: address(p.From), Action: action, Type: typ, ID: id,
	}
	if p.Level != 0 && p.Invitation == "" {
		e.Level = p.Level.String()
	}
	return e
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

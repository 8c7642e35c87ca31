package tracing

import (
	"context"
	"errors"

	"github.com/roster-id/roster/storage"
)

// Store makes spans of what requests wait for: of single reads, and of writes with the commit at
// their end. What streams (members, dumps) and what is seldom asked goes without.
func Store(s storage.Store) storage.Store { return store{s} }

type store struct{ storage.Store }

// failed reports whether an answer says that the store could not give one.
func failed(err error) bool {
	return err != nil && !errors.Is(err, storage.ErrNotFound)
}

func (s store) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	ctx, span := Start(ctx, "store get", kind(typ))
	r, err := s.Store.Get(ctx, tenant, typ, id)
	span.End(failed(err))
	return r, err
}

func (s store) GetToChange(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	ctx, span := Start(ctx, "store get", kind(typ))
	r, err := s.Store.GetToChange(ctx, tenant, typ, id)
	span.End(failed(err))
	return r, err
}

func (s store) Names(ctx context.Context, tenant storage.TenantID, typ string, ids ...string) (map[string]string, error) {
	ctx, span := Start(ctx, "store names", kind(typ))
	names, err := s.Store.Names(ctx, tenant, typ, ids...)
	span.End(failed(err))
	return names, err
}

func (s store) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	ctx, span := Start(ctx, "store query", kind(q.Type))
	page, err := s.Store.Query(ctx, tenant, q)
	span.End(failed(err))
	return page, err
}

func (s store) Groups(ctx context.Context, tenant storage.TenantID, members ...string) (map[string][]storage.Membership, error) {
	ctx, span := Start(ctx, "store groups", "")
	groups, err := s.Store.Groups(ctx, tenant, members...)
	span.End(failed(err))
	return groups, err
}

func (s store) Item(ctx context.Context, tenant storage.TenantID, kind, id string) (*storage.Item, error) {
	ctx, span := Start(ctx, "store item", "")
	item, err := s.Store.Item(ctx, tenant, kind, id)
	span.End(failed(err))
	return item, err
}

func (s store) Items(ctx context.Context, tenant storage.TenantID, kind, key string) ([]*storage.Item, error) {
	ctx, span := Start(ctx, "store items", "")
	items, err := s.Store.Items(ctx, tenant, kind, key)
	span.End(failed(err))
	return items, err
}

func (s store) Token(ctx context.Context, id string) (*storage.Token, *storage.Client, error) {
	ctx, span := Start(ctx, "store token", "")
	token, client, err := s.Store.Token(ctx, id)
	span.End(failed(err))
	return token, client, err
}

// Write makes a span of the write, and in it one of the commit: from when there was nothing more
// to do until it was durable, or given up.
func (s store) Write(ctx context.Context, tenant storage.TenantID, fn func(storage.Tx) error) error {
	ctx, span := Start(ctx, "store write", "")
	if !span.On() {
		return s.Store.Write(ctx, tenant, fn)
	}
	var commit Span
	var own error // that fn gave up with, which is no fault of the store
	err := s.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		commit.End(true) // that of the run before, which did not come to its end
		commit = Span{}
		if own = fn(tx); own == nil {
			_, commit = Start(ctx, "store commit", "")
		}
		return own
	})
	commit.End(failed(err))
	span.End(own == nil && failed(err))
	return err
}

// kind is a type that is built in, or what all are called that tenants define, as in
// auth.CustomResource.
func kind(typ string) string {
	switch typ {
	case "User", "Group", "Role", "RoleAssignment", "Entitlement", "Invitation", "GroupMembership", "GroupMember":
		return typ
	}
	return "Resource"
}

package scim

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// How the operations of a bulk request are carried out: which of them are under way
// together, so that they share commits.

const (
	// bulkAtOnce is how many are under way together.
	bulkAtOnce = 64
	// batch is how many are begun before it is looked whether the request may go on.
	batch = 128
)

// company is how an operation can be under way together with others, to share commits
// with them.
type company int

const (
	// alone: it waits for those before it, and those after it wait.
	alone company = iota
	// ordered: all of it that could be seen happens in its turn.
	ordered
	// free: a create, and which of several is first is nothing that anybody could see.
	free
)

// window is a run of operations that are carried out together.
type window struct {
	company company
	ops     []*bulkOperation
	names   map[string]bool // the unique values of those that are free
	words   wording         // of those that are free
	targets map[string]bool // the resources that those in turn change
}

// run carries the operations out.
func (b *bulk) run() {
	w := window{names: map[string]bool{}, targets: map[string]bool{}}
	flush := func() {
		if len(w.ops) > 0 && !b.pause() {
			b.together(&w)
		}
		w.ops, w.words = nil, wording{}
		clear(w.names)
		clear(w.targets)
	}
	for _, o := range b.ops {
		if b.stop != nil {
			return
		}
		if b.failOnErrors > 0 && b.failed >= b.failOnErrors {
			break
		}
		if o.done {
			continue
		}
		joined := b.joins(&w, o)
		if !joined && len(w.ops) > 0 {
			if flush(); b.stop != nil {
				return
			}
			joined = b.joins(&w, o)
		}
		if !joined {
			b.do(o)
			b.link()
			continue
		}
		if len(w.ops) == batch {
			flush()
		}
	}
	if flush(); b.stop == nil {
		b.link() // what an earlier process created
	}
}

// joins adds an operation to a window if it can be under way together with what is there.
func (b *bulk) joins(w *window, o *bulkOperation) bool {
	f := b.fit(o)
	switch {
	case f.company == alone:
		return false
	case len(w.ops) == 0:
		w.company = f.company
	case w.company == free && f.company != free, w.company == ordered && !orderly(o.t):
		return false
	}
	if w.company == free {
		if w.words.makes && f.words.uses || w.words.uses && f.words.makes {
			return false
		}
		w.words.makes, w.words.uses = w.words.makes || f.words.makes, w.words.uses || f.words.uses
		if slices.ContainsFunc(f.names, func(name string) bool { return w.names[name] }) {
			return false
		}
		for _, name := range f.names {
			w.names[name] = true
		}
	} else if o.method != http.MethodPost {
		target := o.t.Name + " " + o.id
		if ref, ok := strings.CutPrefix(o.id, bulkPrefix); ok {
			target = o.t.Name + " " + b.creates[ref].id
		}
		if w.targets[target] {
			return false // what it reads before it writes would be out of date for certain
		}
		w.targets[target] = true
	}
	w.ops = append(w.ops, o)
	return true
}

// orderly reports whether what is done to resources of a type takes effect in the write
// of its turn, whatever was read before. A change of what others hold is not: all who
// know the roles of the tenant begin again.
func orderly(t *schemas.ResourceType) bool {
	return t.Name == auth.PrincipalUser || t.Name == auth.PrincipalGroup || t.Name == membershipType || t.Custom
}

// apart reports whether new resources of a type are in each other's way by nothing but
// their unique values and what they mean by words. Of memberships there is one of a member
// in a group, and no circle of groups; of assignments one for a time, and of invitations
// one to an address.
func apart(t *schemas.ResourceType) bool {
	return t.Name != membershipType && t.Name != assignmentType && t.Name != invitationType
}

// wording says whether a create makes a role or an entitlement, and whether it could mean
// some by their values: then it matters which comes first.
type wording struct{ makes, uses bool }

func wordingOf(t *schemas.ResourceType, tree any) wording {
	w := wording{makes: t.Name == roleType || t.Name == entitlementType}
	for _, name := range []string{"roles", "entitlements", "contains"} {
		if v, _ := schemas.Field(tree, name); v != nil {
			w.uses = true
		}
	}
	return w
}

// fit is how an operation can go together with others now, and of one that is free its
// unique values and its wording.
type fit struct {
	company company
	names   []string
	words   wording
}

func (b *bulk) fit(o *bulkOperation) fit {
	if o.err != nil || b.failOnErrors > 0 {
		return fit{}
	}
	if bytes.Contains(bytes.ToLower(o.data), []byte(`password`)) {
		return fit{} // a Hasher turns away what is too much at once, and others wait for it
	}
	if o.method == http.MethodPost && len(o.needs) == 0 && apart(o.t) {
		tree, err := b.tree(o)
		if err != nil {
			return fit{}
		}
		return fit{free, uniqueNames(o.t, tree), wordingOf(o.t, tree)}
	}
	// With steps, what changed nothing has to be written down before more is done. What
	// is to be linked would take back a change that comes before that. A person may change
	// who holds administrative roles by any of them, and then the others begin again, when
	// their turn is over.
	if b.steps != nil || len(b.unlinked) > 0 || b.by.Kind == auth.User || !orderly(o.t) {
		return fit{}
	}
	for _, ref := range o.needs {
		if c := b.creates[ref]; c == nil || !c.done {
			return fit{}
		}
	}
	return fit{company: ordered}
}

// uniqueNames returns the unique values of what a create makes: at least those that
// storage.Derive finds in it.
func uniqueNames(t *schemas.ResourceType, tree any) (names []string) {
	add := func(a *schemas.Attribute, value string) {
		names = append(names, t.Name+" "+a.Path+" "+a.UniqueKey(value))
	}
	userName := t.Top("userName")
	_, says := schemas.Field(tree, schemas.RosterUserURI)
	addresses := says && userName != nil // perhaps; see schemas.SignInAddresses
	var each func(a *schemas.Attribute, v any)
	each = func(a *schemas.Attribute, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				each(a, e)
			}
		case map[string]any:
			for name, e := range v {
				if s := a.Sub(name); s != nil {
					each(s, e)
				}
			}
		case string:
			switch leaf := a.Leaf(); {
			case leaf == nil:
			case storage.Unique(leaf):
				add(leaf, v)
			case addresses && leaf.Path == "emails.value":
				add(userName, v)
			}
		}
	}
	raw, _ := tree.(map[string]any)
	for name, v := range raw {
		if a := t.Top(name); a != nil {
			each(a, v)
		}
	}
	return names
}

// together carries out the operations of a window.
func (b *bulk) together(w *window) {
	var g errgroup.Group
	g.SetLimit(bulkAtOnce)
	if !b.save() {
		return
	}
	var last *storage.Turn
	for _, o := range w.ops {
		o.begun = true
		ctx := b.context(o, false)
		if w.company == free {
			g.Go(func() error { b.carryOut(ctx, o); return nil })
			continue
		}
		turn := storage.NewTurn(last)
		last = turn
		g.Go(func() error { b.inTurn(ctx, o, turn); return nil })
	}
	_ = g.Wait() // they keep their errors
	for _, o := range w.ops {
		b.finish(o)
	}
}

// inTurn carries an operation out as if all before it were over, while they are under
// way: it reads when it likes and writes in its turn, where all is decided. What comes to
// its end without a write, because there is an error or nothing to do, is done again when
// the others are over, since they may have changed what it read.
func (b *bulk) inTurn(ctx context.Context, o *bulkOperation, turn *storage.Turn) {
	defer turn.End()
	b.carryOut(storage.InTurn(ctx, turn), o)
	if turn.Early() {
		turn.Alone()
		o.err, o.res = nil, nil
		b.carryOut(ctx, o)
	}
}

package scim

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Lists and searches over all resource types (RFC 7644 §3.4.2.1): those of each type
// that the principal may read, one behind the other, or between each other where an
// order is asked for. Memberships are among them where the filter speaks of them.

// maxAcross is up to which place a list over all types goes that is ordered by an
// attribute: each type is read up to there.
const maxAcross = 10_000

func (h *Handler) listAll(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	params, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	search, err := parseSearch(params)
	if err != nil {
		return err
	}
	return h.answerAll(w, r, by, search)
}

func (h *Handler) searchAll(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	search, err := h.searchBody(r, by)
	if err != nil {
		return err
	}
	return h.answerAll(w, r, by, search)
}

// part is what a search over all types asks of one of them.
type part struct {
	t    *schemas.ResourceType
	q    storage.Query
	v    view
	page *storage.Page
}

func (h *Handler) answerAll(w http.ResponseWriter, r *http.Request, by auth.Principal, search SearchRequest) error {
	parts, err := h.parts(r, by, search)
	if err != nil {
		return err
	}
	ctx := r.Context()
	l := listing{h: h, search: search, bound: search.bound(by, "")}
	switch {
	case search.SortBy == "" && search.Cursor == nil:
		err = h.behindEachOther(ctx, by, &l, parts)
	case search.SortBy == "":
		err = h.walkAll(ctx, by, &l, parts)
	case search.Cursor != nil:
		return &Error{Status: 400, Type: InvalidValue, Detail: "sortBy: a walk over all resource types has an order of its own"}
	default:
		return h.betweenEachOther(w, r, by, &l, parts)
	}
	if err != nil {
		return err
	}
	return l.write(ctx, w, r, func(s *stream) (n int, err error) {
		for _, p := range parts {
			if p.page == nil {
				continue
			}
			if n, err = h.writePage(ctx, s, by, p.v, p.page, n); err != nil {
				return n, err
			}
		}
		return n, nil
	})
}

// parts binds a search to each type that the principal may read.
func (h *Handler) parts(r *http.Request, by auth.Principal, search SearchRequest) ([]*part, error) {
	set, err := h.provider.types(r.Context(), by.Tenant)
	if err != nil {
		return nil, err
	}
	var readable []*schemas.ResourceType
	for _, t := range set.Types() {
		if by.May(auth.Read, permitted(t)) {
			readable = append(readable, t)
		}
	}
	base := h.base(r)
	visible := make([]*schemas.ResourceType, len(readable))
	for i, t := range readable {
		visible[i] = shown(by, t)
	}
	var parts []*part
	for i, t := range readable {
		q, err := search.query(visible[i], base+t.Endpoint+"/", visible...)
		if err != nil {
			return nil, err
		}
		if t.Name == membershipType {
			if !ofMemberships(q.Filter) {
				continue
			}
			if search.SortBy != "" {
				return nil, errMembershipOrder
			}
		}
		parts = append(parts, &part{t: t, q: stored(q, visible[i], t), v: viewFor(by, t, base, search.Projection)})
	}
	return parts, nil
}

// open asks for the page of a part.
func (h *Handler) open(ctx context.Context, by auth.Principal, p *part) (err error) {
	p.page, err = h.provider.Query(ctx, by, p.t, p.q)
	return err
}

// behindEachOther asks for a page by index.
func (h *Handler) behindEachOther(ctx context.Context, by auth.Principal, l *listing, parts []*part) error {
	skip, left := l.search.StartIndex-1, l.search.Count
	for _, p := range parts {
		p.q.StartIndex, p.q.Count = skip+1, left
		if err := h.open(ctx, by, p); err != nil {
			return err
		}
		total := p.page.TotalResults
		l.total += total
		left -= min(left, max(0, total-skip))
		skip = max(0, skip-total)
	}
	return nil
}

// walkAll asks for a page of a walk. Each page is of one type, so those at the end of a
// type may be shorter than the others.
func (h *Handler) walkAll(ctx context.Context, by auth.Principal, l *listing, parts []*part) error {
	after, err := l.open(ctx)
	if err != nil {
		return err
	}
	first := l.from.Type == ""
	if first {
		for _, p := range parts {
			p.q.Count = 0
			if err := h.open(ctx, by, p); err != nil {
				return err
			}
			l.total += p.page.TotalResults
			p.page = nil
		}
		if l.search.Count == 0 {
			return nil
		}
	} else {
		at := slices.IndexFunc(parts, func(p *part) bool { return p.t.Name == l.from.Type })
		if at < 0 {
			return errInvalidCursor // the client could read more when it was made
		}
		parts = parts[at:]
		parts[0].q.After = after
	}
	for i, p := range parts {
		p.q.Count = l.search.Count
		if err := h.open(ctx, by, p); err != nil {
			return err
		}
		if p.page.Last != nil {
			l.next = &place{Type: p.t.Name}
			l.next.at(p.page.Last)
			return nil
		}
		if first && p.page.TotalResults == 0 {
			continue
		}
		for _, p := range parts[i+1:] {
			one := p.q
			one.Count = 1
			page, err := h.provider.Query(ctx, by, p.t, one)
			if err != nil {
				return err
			}
			if page.TotalResults > 0 {
				l.next = &place{Type: p.t.Name}
				return nil
			}
		}
		return nil
	}
	return nil
}

// betweenEachOther answers with a page of resources of all types in one order.
func (h *Handler) betweenEachOther(w http.ResponseWriter, r *http.Request, by auth.Principal, l *listing, parts []*part) error {
	ctx := r.Context()
	skip, count := l.search.StartIndex-1, l.search.Count
	if skip > maxAcross-count { // the sum may be more than an int holds
		return &Error{Status: 400, Type: TooMany, Detail: fmt.Sprintf("startIndex: an ordered list over all resource types goes up to %d: narrow the filter, or search one type", maxAcross)}
	}
	m := mixture{descending: l.search.descending()}
	for _, p := range parts {
		p.q.StartIndex, p.q.Count, p.q.Descending = 1, skip+count, m.descending
		if err := h.open(ctx, by, p); err != nil {
			return err
		}
		l.total += p.page.TotalResults
		m.heads = append(m.heads, head{part: p})
	}
	return l.write(ctx, w, r, func(s *stream) (n int, err error) {
		for place := 0; place < skip+count; place++ {
			p, res, err := m.next(ctx)
			if err != nil || res == nil {
				return n, err
			}
			if place < skip {
				continue
			}
			with, err := h.aroundOne(ctx, by, p.v.t, res)
			if err != nil {
				return n, err
			}
			if n > 0 {
				s.buf = append(s.buf, ',')
			}
			n++
			if err := h.write(ctx, s, by, p.v, res, with); err != nil {
				return n, err
			}
		}
		return n, nil
	})
}

// mixture merges the pages of several types, each of which is in order.
type mixture struct {
	heads      []head
	descending bool
}

// head is the first of a page that has not been taken.
type head struct {
	*part
	list  []*storage.Resource
	value any
	ready bool
	ended bool
}

// next takes the resource that is next in the order, nil at the end. It is valid until
// the following call.
func (m *mixture) next(ctx context.Context) (*part, *storage.Resource, error) {
	var first *head
	for i := range m.heads {
		h := &m.heads[i]
		if err := h.fill(ctx); err != nil {
			return nil, nil, err
		}
		if !h.ended && (first == nil || m.before(h, first)) {
			first = h
		}
	}
	if first == nil {
		return nil, nil, nil
	}
	r := first.list[0]
	first.list, first.ready = first.list[1:], false
	return first.part, r, nil
}

func (h *head) fill(ctx context.Context) (err error) {
	if h.ready || h.ended {
		return nil
	}
	if len(h.list) == 0 {
		if h.list, err = h.page.Next(ctx); err != nil {
			return err
		}
		if h.ended = len(h.list) == 0; h.ended {
			return nil
		}
	}
	h.ready, h.value = true, nil
	if h.q.SortBy != nil {
		h.value = sortKey(h.q.SortBy, attributesOf(h.t, h.list[0]))
	}
	return nil
}

func (m *mixture) before(a, b *head) bool {
	order := cmp.Or(storage.CompareValues(a.value, b.value), cmp.Compare(a.list[0].ID, b.list[0].ID))
	if m.descending {
		order = -order
	}
	return order < 0
}

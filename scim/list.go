package scim

import (
	"context"
	"net/http"
	"strconv"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Lists and searches of one resource type (RFC 7644 §3.4.2 and §3.4.3), by index or by
// cursor (RFC 9865). across.go has those over all types.

func (h *Handler) list(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	params, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	search, err := parseSearch(params)
	if err != nil {
		return err
	}
	return h.answer(w, r, by, t, search)
}

// search answers POST .search.
func (h *Handler) search(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType) error {
	search, err := h.searchBody(r, by)
	if err != nil {
		return err
	}
	return h.answer(w, r, by, t, search)
}

// searchBody reads what a POST .search asks for. Its parameters are in the body; a filter
// elsewhere is refused, for without it the answer would be everything.
func (h *Handler) searchBody(r *http.Request, by auth.Principal) (search SearchRequest, err error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return search, err
	}
	if q.Has("filter") {
		return search, &Error{Status: 400, Type: InvalidFilter, Detail: "filter: a search has it in the body (RFC 7644 §3.4.3)"}
	}
	err = h.withBody(r, by, func(body any) error {
		search, err = parseSearchBody(body, mode(by))
		return err
	})
	return search, err
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, by auth.Principal, t *schemas.ResourceType, search SearchRequest) error {
	base := h.base(r)
	q, err := search.query(shown(by, t), base+t.Endpoint+"/")
	if err != nil {
		return err
	}
	q = stored(q, shown(by, t), t)
	ctx := r.Context()
	l := listing{h: h, search: search, total: -1, bound: search.bound(by, t.Endpoint)}
	if q.After, err = l.open(ctx); err != nil {
		return err
	}
	page, err := h.provider.Query(ctx, by, t, q)
	if err != nil {
		return err
	}
	if l.total < 0 {
		l.total = page.TotalResults
	}
	if page.Last != nil {
		l.next = &place{}
		l.next.at(page.Last)
	}
	return l.write(ctx, w, r, func(s *stream) (int, error) {
		return h.writePage(ctx, s, by, viewFor(by, t, base, search.Projection), page, 0)
	})
}

// listing is a ListResponse under way.
type listing struct {
	h      *Handler
	search SearchRequest
	bound  []byte // of cursors
	from   place  // where the page begins, unless it is the first
	total  int    // negative as long as it is not known
	next   *place // where the following page begins, if there is one
}

// open reads the cursor of the request.
func (l *listing) open(ctx context.Context) (*storage.Mark, error) {
	if l.search.Cursor == nil || *l.search.Cursor == "" {
		return nil, nil
	}
	p, err := l.h.cursors.open(ctx, *l.search.Cursor, l.search.Count, l.bound)
	if err != nil {
		return nil, err
	}
	l.from, l.total = *p, p.Total
	return p.mark(), nil
}

// write sends a ListResponse whose resources are written by fill, which returns how
// many there were.
func (l *listing) write(ctx context.Context, w http.ResponseWriter, r *http.Request, fill func(*stream) (int, error)) error {
	cursor := ""
	if l.next != nil {
		l.next.Count, l.next.Total = l.search.Count, l.total
		var err error
		if cursor, err = l.h.cursors.close(ctx, *l.next, l.bound); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", mediaType(r))
	s := newStream(w, 200)
	s.buf = append(s.buf, `{"schemas":["`+ListResponseURI+`"],"totalResults":`...)
	s.buf = strconv.AppendInt(s.buf, int64(l.total), 10)
	if l.search.Cursor == nil {
		s.buf = append(s.buf, `,"startIndex":`...)
		s.buf = strconv.AppendInt(s.buf, int64(l.search.StartIndex), 10)
	}
	if cursor != "" {
		s.buf = append(append(append(s.buf, `,"nextCursor":"`...), cursor...), '"')
	}
	s.buf = append(s.buf, `,"Resources":[`...)
	n, err := fill(s)
	if err != nil {
		return s.fail(err)
	}
	s.buf = append(s.buf, `],"itemsPerPage":`...)
	s.buf = strconv.AppendInt(s.buf, int64(n), 10)
	s.buf = append(s.buf, '}')
	return s.close()
}

// writePage appends the resources of a page behind n others, and returns how many there
// are then.
func (h *Handler) writePage(ctx context.Context, s *stream, by auth.Principal, v view, page *storage.Page, n int) (int, error) {
	for {
		resources, err := page.Next(ctx)
		if err != nil || len(resources) == 0 {
			return n, err
		}
		list, err := h.around(ctx, by, v.t, resources...)
		if err != nil {
			return n, err
		}
		for i, res := range resources {
			var with around
			if list != nil {
				with = list[i]
			}
			if n > 0 {
				s.buf = append(s.buf, ',')
			}
			n++
			if err := h.write(ctx, s, by, v, res, with); err != nil {
				return n, err
			}
		}
	}
}

package mongo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// readAhead bounds the documents a page holds in memory at a time, beside what
// the driver has received.
const readAhead = 256 << 10

// mostSkipped is beyond every list; what is added to it stays a number.
const mostSkipped = 1 << 40

// heardKey leads to a bool that each sets when a server has answered.
type heardKey struct{}

// firstPortion is up to how many resources a page is read in one find.
const firstPortion = 250

// resourceFields are what resourceFrom reads.
var resourceFields = only(fResource, fVersion, fCreated, fModified, fGrouped, fStamp, fDoc)

func resourceFrom(typ string, raw bson.Raw) *storage.Resource {
	return &storage.Resource{
		Type: typ, ID: text(raw, fResource), Version: number(raw, fVersion), Created: time.UnixMilli(number(raw, fCreated)).UTC(),
		LastModified: time.UnixMilli(number(raw, fModified)).UTC(), Doc: []byte(text(raw, fDoc)), InGroups: truth(raw, fGrouped), Ref: number(raw, fStamp),
	}
}

// Get implements storage.Resources.
func (s *Store) Get(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	r, err := s.get(ctx, string(tenant), typ, id)
	return r, found(err)
}

func (s *Store) get(ctx context.Context, tenant, typ, id string) (*storage.Resource, error) {
	raw, err := s.db.Collection(resources).FindOne(ctx, liveByID(tenant, id, typ), options.FindOne().SetProjection(resourceFields)).Raw()
	if err != nil {
		return nil, err
	}
	return resourceFrom(typ, raw), nil
}

// GetToChange implements storage.Resources.
func (s *Store) GetToChange(ctx context.Context, tenant storage.TenantID, typ, id string) (*storage.Resource, error) {
	r, err := s.getToChange(ctx, string(tenant), typ, id)
	return r, found(err)
}

func (s *Store) getToChange(ctx context.Context, tenant, typ, id string) (*storage.Resource, error) {
	raw, epoch, err := s.withEpoch(ctx, tenant, typ, id, resourceFields)
	if err != nil {
		return nil, err
	}
	r := resourceFrom(typ, raw)
	r.Epoch = epoch
	return r, nil
}

// withEpoch reads some fields of a resource and the tenant's epoch in one find. The error is
// mongo.ErrNoDocuments without the resource.
func (s *Store) withEpoch(ctx context.Context, tenant, typ, id string, fields bson.D) (raw bson.Raw, epoch int64, err error) {
	filter := append(byIDs(tenant, bson.A{key(tenant, id), epochID(tenant)}), bson.E{Key: fType, Value: d("$in", bson.A{typ, epochType})})
	err = s.each(ctx, resources, filter, func(found bson.Raw) error {
		if text(found, fType) == epochType {
			epoch = number(found, fVersion)
		} else {
			raw = slices.Clone(found)
		}
		return nil
	}, look().fields(append(only(fType), fields...)))
	if err == nil && raw == nil {
		err = mongo.ErrNoDocuments
	}
	return raw, epoch, err
}

// Epoch implements storage.Resources.
func (s *Store) Epoch(ctx context.Context, tenant storage.TenantID) (int64, error) {
	raw, err := s.db.Collection(resources).FindOne(ctx, byID(string(tenant), epochID(string(tenant)))).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, nil
	}
	if err != nil {
		return 0, explain(err)
	}
	return number(raw, fVersion), nil
}

// Names implements storage.Resources.
func (s *Store) Names(ctx context.Context, tenant storage.TenantID, typ string, ids ...string) (map[string]string, error) {
	info, err := s.infos(ctx, string(tenant), typ, ids)
	if err != nil {
		return nil, explain(err)
	}
	names := make(map[string]string, len(info))
	for id, i := range info {
		names[id] = i.name
	}
	return names, nil
}

// Query implements storage.Resources.
func (s *Store) Query(ctx context.Context, tenant storage.TenantID, q storage.Query) (*storage.Page, error) {
	q.StartIndex = min(q.StartIndex, mostSkipped)
	inner, heard := ctx, false
	if q.Filter != nil || q.SortBy != nil {
		var cancel context.CancelFunc
		inner, cancel = context.WithTimeout(context.WithValue(ctx, heardKey{}, &heard), s.opt.QueryTimeout)
		defer cancel()
	}
	var p *page
	var total int
	start := time.Now()
	err := s.snapshot(inner, func(ctx context.Context) (err error) {
		p = &page{store: s, tenant: string(tenant), typ: q.Type}
		total, err = p.query(ctx, q)
		return err
	})
	if err != nil {
		// A server that says nothing at all is not busy with the query but gone.
		if slow := hasCode(err, codeMaxTimeMSExpired) || heard && mongo.IsTimeout(err) && !unreachable(err) && !disconnected(err); slow && ctx.Err() == nil && inner != ctx {
			return nil, fmt.Errorf("%w: stopped after %s", storage.ErrTooExpensive, time.Since(start).Round(time.Millisecond))
		}
		return nil, explain(err)
	}
	answer := storage.NewPage(total, p.next)
	answer.Last = p.last
	return answer, nil
}

// page is the result of a query: a portion read ahead, and the ids of those
// resources that did not fit into it.
type page struct {
	store  *Store
	tenant string
	typ    string
	first  []*storage.Resource
	size   int // of the documents in first
	rest   []string
	read   int // resources and
	bytes  int // bytes of documents so far, from which portions are measured
	last   *storage.Mark
}

// query reads what the page begins with, and the total.
func (p *page) query(ctx context.Context, q storage.Query) (int, error) {
	cond, single, err := p.store.compile(ctx, p.tenant, q)
	if err != nil {
		return 0, err
	}
	sort := serverSort(q.SortBy, q.Descending)
	if !cond.exact || sort == nil {
		return p.scan(ctx, q, cond, sort)
	}
	skip := max(0, q.StartIndex-1)
	count := max(0, q.Count)
	if q.Walk && count > 0 {
		return p.walk(ctx, q, cond, sort)
	}
	got := 0
	if count > 0 {
		limit := min(count, firstPortion)
		err := p.store.each(ctx, resources, cond.query, func(raw bson.Raw) error {
			got++
			p.take(raw)
			return nil
		}, find(sort, skip, limit).fields(resourceFields))
		if err != nil {
			return 0, err
		}
		if got == limit && count > limit {
			err := p.store.each(ctx, resources, cond.query, func(raw bson.Raw) error {
				got++
				p.rest = append(p.rest, text(raw, fResource))
				return nil
			}, find(sort, skip+limit, count-limit).fields(only(fResource)))
			if err != nil {
				return 0, err
			}
		}
		// A page that is not full, and not past the end, ends the result.
		if (got < count || single) && (got > 0 || skip == 0) {
			return skip + got, nil
		}
	}
	n, err := p.store.db.Collection(resources).CountDocuments(ctx, cond.query)
	return int(n), err
}

// walk reads a page of a walk in an order that MongoDB has. One resource more than the
// page has room for says that the walk goes on.
func (p *page) walk(ctx context.Context, q storage.Query, cond condition, sort bson.D) (int, error) {
	where := cond.query
	if q.After != nil {
		where = append(slices.Clone(where), behind(sort, q.After)...)
	}
	value, kept, more := placeIn(sort), 0, false
	var last storage.Mark
	row := func(take func(bson.Raw)) func(bson.Raw) error {
		return func(raw bson.Raw) error {
			if kept == q.Count {
				more = true
				return nil
			}
			kept++
			last = storage.Mark{Value: value(raw), ID: text(raw, fResource)}
			take(raw)
			return nil
		}
	}
	limit := min(q.Count+1, firstPortion)
	if err := p.store.each(ctx, resources, where, row(p.take), find(sort, 0, limit).fields(resourceFields)); err != nil {
		return 0, err
	}
	if kept == limit && q.Count >= limit {
		rest := func(raw bson.Raw) { p.rest = append(p.rest, text(raw, fResource)) }
		err := p.store.each(ctx, resources, where, row(rest), find(sort, limit, q.Count+1-limit).fields(only(fResource, fCreated, fModified)))
		if err != nil {
			return 0, err
		}
	}
	if more {
		p.last = &last
	}
	switch {
	case q.After != nil:
		return 0, nil
	case !more:
		return kept, nil
	}
	n, err := p.store.db.Collection(resources).CountDocuments(ctx, cond.query)
	return int(n), err
}

// placeIn returns what the value of a Mark is in an order of serverSort.
func placeIn(sort bson.D) func(bson.Raw) any {
	field := sort[0].Key
	if field == fResource {
		return func(bson.Raw) any { return nil }
	}
	return func(raw bson.Raw) any { return number(raw, field) }
}

// behind selects what comes behind a mark in an order of serverSort.
func behind(sort bson.D, m *storage.Mark) bson.D {
	op := "$gt"
	if sort[0].Value == -1 {
		op = "$lt"
	}
	if sort[0].Key == fResource {
		return d(fResource, d(op, m.ID))
	}
	field := sort[0].Key
	return d(field, d(op+"e", m.Value), "$or", bson.A{d(field, d(op, m.Value)), d(fResource, d(op, m.ID))})
}

// find begins the options of a find. A batch has room for one more than is
// wanted, which tells the server that the cursor need not stay open.
func find(sort bson.D, skip, limit int) *looking {
	return look().sort(sort).skip(int64(skip)).limit(int64(limit)).batch(int32(min(limit, 1<<20) + 1))
}

// take keeps a resource, or only its id once enough is held.
func (p *page) take(raw bson.Raw) {
	if p.size >= readAhead {
		p.rest = append(p.rest, text(raw, fResource))
		return
	}
	r := resourceFrom(p.typ, raw)
	p.first = append(p.first, r)
	p.size += len(r.Doc)
	p.note(len(r.Doc))
}

func (p *page) note(size int) {
	p.read++
	p.bytes += size
}

func (p *page) next(ctx context.Context) ([]*storage.Resource, error) {
	if list := p.first; len(list) > 0 {
		p.first = nil
		return list, nil
	}
	for len(p.rest) > 0 {
		n := min(64, len(p.rest))
		if p.read > 0 {
			n = min(len(p.rest), max(1, min(firstPortion, readAhead*p.read/max(1, p.bytes))))
		}
		list, err := p.byID(ctx, p.rest[:n])
		if err != nil {
			return nil, explain(err)
		}
		p.rest = p.rest[n:]
		if len(list) > 0 {
			return list, nil
		}
	}
	return nil, nil
}

// byID reads resources in the order of their ids in the list. What is deleted
// meanwhile is left out.
func (p *page) byID(ctx context.Context, ids []string) ([]*storage.Resource, error) {
	found := make(map[string]*storage.Resource, len(ids))
	err := p.store.each(ctx, resources, append(byIDs(p.tenant, prefixed(key(p.tenant, ""), ids)), bson.E{Key: fType, Value: p.typ}), func(raw bson.Raw) error {
		r := resourceFrom(p.typ, raw)
		found[r.ID] = r
		p.note(len(r.Doc))
		return nil
	}, look().fields(resourceFields).batch(int32(len(ids)+1)))
	if err != nil {
		return nil, err
	}
	list := make([]*storage.Resource, 0, len(ids))
	for _, id := range ids {
		if r := found[id]; r != nil {
			list = append(list, r)
		}
	}
	return list, nil
}

// serverSort returns the order of a query where MongoDB has the same, or nil: it
// puts missing values first, knows nothing of a primary element, and would sort
// in memory without an index.
func serverSort(a *schemas.Attribute, descending bool) bson.D {
	dir := 1
	if descending {
		dir = -1
	}
	switch {
	case a == nil, a.Path == "id", a.Path == "meta.resourceType": // all have the same type
		return d(fResource, dir)
	case a.Path == "meta.created":
		return d(fCreated, dir, fResource, dir)
	case a.Path == "meta.lastModified":
		return d(fModified, dir, fResource, dir)
	}
	return nil
}

package scim

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	randv2 "math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/mux"
	"golang.org/x/sync/errgroup"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

const (
	// MaxAsync is how many requests of a client may wait to be carried out.
	MaxAsync = 16
	// DefaultResultLifetime is for how long the result of a request can be read if
	// nobody says otherwise.
	DefaultResultLifetime = 24 * time.Hour
	// maxWait is the longest that a client can wait for the usual answer.
	maxWait = 30 * time.Second
	// pollAfter is what clients are told to wait before they ask again, in seconds.
	pollAfter = 2
	// keptWaiting is longer than any request waits that is not held up by servers that
	// stand still; after that it vanishes.
	keptWaiting = 37 * 24 * time.Hour
	// lease is for how long nobody else carries a request out; longer than a batch of
	// operations takes.
	lease = 2 * time.Minute
	// askEvery is how old what is known of a client may be.
	askEvery = 500 * time.Millisecond
	// lookForWork is how often a process looks for what is due, more or less. What it
	// accepted itself does not wait for that.
	lookForWork = 15 * time.Second
	// asyncAtOnce is how many requests one process carries out at once.
	asyncAtOnce = 4
	// asyncAttempts is after how many of them that did not come to an end a request is
	// given up.
	asyncAttempts = 24
	// longestPause is the longest between two of them.
	longestPause = 5 * time.Minute
	// noteWithin bounds how long it may take to note something when the process ends.
	noteWithin = 10 * time.Second
)

// Async carries out bulk requests after they were answered (RFC 7240 §4.1). A request
// that was accepted is in the store, with its operations sealed, until its result is
// there. Any process may carry it out, and take it over from one that has ended.
// Set the fields before the first call; all methods are safe for concurrent use.
type Async struct {
	Provider *Provider
	Keys     *auth.KeyRing
	Log      *slog.Logger
	// Lifetime is for how long a result can be read; DefaultResultLifetime if it is zero.
	Lifetime time.Duration
	// Pending and Done, for metrics, are told how many requests wait or are under way
	// and when one is done. They may be nil.
	Pending func(n int)
	Done    func()
	// Tells, if set, reports whether anybody in a tenant is told when an operation of a
	// request is done.
	Tells func(ctx context.Context, tenant storage.TenantID) (bool, error)

	once     sync.Once
	fresh    chan asyncPlace
	stopping chan struct{}
	mu       sync.Mutex
	waiting  map[string]chan struct{} // closed when the request with this id is done
}

func (a *Async) init() {
	a.once.Do(func() {
		a.fresh, a.stopping, a.waiting = make(chan asyncPlace, 1024), make(chan struct{}), map[string]chan struct{}{}
	})
}

// asyncPlace says where a request is.
type asyncPlace struct {
	tenant storage.TenantID
	txn    string
}

// The kinds of items, whose ids are those of requests. What a client sent is apart from
// the rest, which is read often.
const (
	asyncKind  = "bulk"
	sealedKind = "bulk.request"
	resultKind = "bulk.result"
)

// AsyncType is the type of the audit entries of asynchronous requests, whose id is the
// transaction's. Those of their operations are events: their changes are the members of
// the operation's response, location without the address of the server, those of its error
// beside them, and the path where there is no location.
const AsyncType = "Bulk"

// AsyncResourceType is what these entries call the type of the operation's resource.
const AsyncResourceType = "resourceType"

// waitingKey is a key of requests that are not done. Those of one client have a second.
const waitingKey = "waiting"

func waitingOf(client string) string { return waitingKey + ":" + client }

// asyncRecord is the data of a request.
type asyncRecord struct {
	Client   string     `json:"client"`
	From     netip.Addr `json:"from,omitzero"`
	Base     string     `json:"base"` // below which it was sent
	Accepted time.Time  `json:"accepted"`
	// Due is when it is to be carried out, or when the lease of who does runs out.
	Due      time.Time `json:"due"`
	Attempts int       `json:"attempts,omitzero"`
	Lease    string    `json:"lease,omitzero"`
	Done     time.Time `json:"done,omitzero"`

	taken bool // from who held a lease and did not give it back
}

// due reports whether it is time to carry it out, and nobody does.
func (r asyncRecord) due(now time.Time) bool {
	if r.Lease != "" {
		return storage.Due(r.Due, now, lease)
	}
	return storage.Due(r.Due, now, longestPause)
}

type sealedRequest struct {
	Sealed []byte `json:"sealed"`
}

func sealedOwner(tenant storage.TenantID, txn string) []string {
	return []string{string(tenant), sealedKind, txn}
}

func sealRequest(keys *auth.KeyRing, tenant storage.TenantID, txn string, raw []byte, expires time.Time) (*storage.Item, error) {
	sealed := keys.Seal(raw, sealedOwner(tenant, txn)...)
	data, err := json.Marshal(sealedRequest{sealed})
	return &storage.Item{Kind: sealedKind, ID: txn, Keys: []string{keys.SealedKey(sealed, txn)}, Expires: expires, Data: data}, err
}

func openRequest(keys *auth.KeyRing, tenant storage.TenantID, i *storage.Item) ([]byte, error) {
	var r sealedRequest
	if err := json.Unmarshal(i.Data, &r); err != nil {
		return nil, fmt.Errorf("the request %s is damaged", i.ID)
	}
	return keys.Open(r.Sealed, sealedOwner(tenant, i.ID)...)
}

// SealedBulk are the requests that wait, for the rotation of keys.
var SealedBulk = auth.Sealed{
	Kind: sealedKind,
	Reseal: func(k *auth.KeyRing, tenant storage.TenantID, i *storage.Item) (*storage.Item, error) {
		raw, err := openRequest(k, tenant, i)
		if err != nil {
			return nil, err
		}
		return sealRequest(k, tenant, i.ID, raw, i.Expires)
	},
}

func (a *Async) now() time.Time { return a.Provider.now() }

func (a *Async) entry(tenant storage.TenantID, action, txn string) storage.AuditEntry {
	return auth.System(tenant).Entry(auth.WithRequestID(context.Background(), txn), a.now(), action, AsyncType, txn)
}

func readAsync(i *storage.Item) (r asyncRecord, err error) {
	if err := json.Unmarshal(i.Data, &r); err != nil {
		return r, fmt.Errorf("the request %s is damaged", i.ID)
	}
	return r, nil
}

func (a *Async) put(tx storage.ItemWriter, prev *storage.Item, txn string, r asyncRecord) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	next := &storage.Item{Kind: asyncKind, ID: txn, Data: data}
	if r.Done.IsZero() {
		next.Keys, next.Expires = []string{waitingKey, waitingOf(r.Client)}, r.Accepted.Add(keptWaiting)
	} else {
		next.Expires = a.readableUntil(r)
	}
	return tx.PutItem(prev, next)
}

// readableUntil is until when the result of a request that is done can be read.
func (a *Async) readableUntil(r asyncRecord) time.Time {
	return r.Done.Add(cmp.Or(a.Lifetime, DefaultResultLifetime))
}

// held returns a request that the holder of a lease carries out, or errTaken.
func (a *Async) held(tx storage.ItemWriter, txn, holder string) (*storage.Item, asyncRecord, error) {
	i, err := tx.Item(asyncKind, txn)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, asyncRecord{}, errTaken
	}
	if err != nil {
		return nil, asyncRecord{}, err
	}
	r, err := readAsync(i)
	if err == nil && (r.Lease != holder || !r.Done.IsZero()) {
		err = errTaken
	}
	return i, r, err
}

// accept stores a request that has been found good.
func (a *Async) accept(ctx context.Context, by auth.Principal, base string, raw []byte) (txn string, err error) {
	txn, now := storage.NewID(), a.now()
	err = a.Provider.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard(asyncKind + ":" + by.ID); err != nil {
			return err
		}
		list, err := tx.Items(asyncKind, waitingOf(by.ID))
		if err != nil {
			return err
		}
		if len(list) >= MaxAsync {
			return &Error{Status: http.StatusTooManyRequests, Detail: fmt.Sprintf("%d requests of this client wait to be carried out", MaxAsync), RetryAfter: 30}
		}
		if err := a.Keys.MeetCanary(tx, by.Tenant); err != nil {
			return err
		}
		sealed, err := sealRequest(a.Keys, by.Tenant, txn, raw, now.Add(keptWaiting))
		if err != nil {
			return err
		}
		if err := tx.PutItem(nil, sealed); err != nil {
			return err
		}
		if err := a.put(tx, nil, txn, asyncRecord{Client: by.ID, From: by.From, Base: base, Accepted: now, Due: now}); err != nil {
			return err
		}
		return tx.Audit(by.Entry(ctx, now, "bulk.accept", AsyncType, txn))
	})
	if err != nil {
		return "", err
	}
	select {
	case a.fresh <- asyncPlace{by.Tenant, txn}:
	default: // it is found later
	}
	return txn, nil
}

// find returns a request of a client, with its result if it is done.
func (a *Async) find(ctx context.Context, by auth.Principal, txn string) (*storage.Item, error) {
	if by.Kind != auth.Client || !ours(txn) {
		return nil, storage.ErrNotFound
	}
	i, err := a.Provider.Store.Item(ctx, by.Tenant, asyncKind, txn)
	if err != nil {
		return nil, err
	}
	r, err := readAsync(i)
	switch {
	case err != nil:
		return nil, err
	case r.Client != by.ID || !i.Expires.After(a.now()):
		return nil, storage.ErrNotFound
	case r.Done.IsZero():
		return nil, nil
	}
	return a.Provider.Store.Item(ctx, by.Tenant, resultKind, txn)
}

// await waits for the result of a request, and returns nil if it does not come in time.
func (a *Async) await(ctx context.Context, by auth.Principal, txn string, wait time.Duration) (*storage.Item, error) {
	LeavePlace(ctx)
	a.mu.Lock()
	done := a.waiting[txn]
	if done == nil {
		done = make(chan struct{})
		a.waiting[txn] = done
	}
	a.mu.Unlock()
	defer a.forget(txn)
	end := time.NewTimer(min(wait, maxWait))
	defer end.Stop()
	look := time.NewTicker(time.Second) // another process may carry it out
	defer look.Stop()
	for {
		if i, err := a.find(ctx, by, txn); i != nil || err != nil {
			return i, err
		}
		select {
		case <-done:
			done = nil
		case <-look.C:
		case <-end.C:
			return nil, nil
		case <-a.stopping:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// forget ends the waiting for a request.
func (a *Async) forget(txn string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if done := a.waiting[txn]; done != nil {
		close(done)
		delete(a.waiting, txn)
	}
}

// Run carries requests out until ctx ends; then it ends what is begun with the batch of
// operations at hand.
func (a *Async) Run(ctx context.Context) error {
	a.init()
	defer close(a.stopping)
	var g errgroup.Group
	g.SetLimit(asyncAtOnce)
	begin := func(p asyncPlace) {
		g.Go(func() error {
			a.carryOut(ctx, p)
			return nil
		})
	}
	look := time.NewTimer(0)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case p := <-a.fresh:
			begin(p)
		case <-look.C:
			for _, p := range a.due(ctx) {
				begin(p)
			}
			look.Reset(lookForWork/2 + randv2.N(lookForWork))
		}
	}
}

// Round carries out what is due now.
func (a *Async) Round(ctx context.Context) {
	a.init()
	for _, p := range a.due(ctx) {
		a.carryOut(ctx, p)
	}
}

// due returns what is to be carried out now, what was accepted first first.
func (a *Async) due(ctx context.Context) (due []asyncPlace) {
	n := 0
	since := map[asyncPlace]time.Time{}
	err := func() error {
		tenants, err := a.Provider.Store.ListTenants(ctx)
		if err != nil {
			return err
		}
		for _, t := range tenants {
			items, err := a.Provider.Store.Items(ctx, t.ID, asyncKind, waitingKey)
			if err != nil {
				return err
			}
			n += len(items)
			for _, i := range items {
				r, err := readAsync(i)
				if err != nil {
					a.Log.Error("a bulk request cannot be read", "txn", i.ID)
				} else if r.due(a.now()) {
					p := asyncPlace{t.ID, i.ID}
					due, since[p] = append(due, p), r.Accepted
				}
			}
		}
		return nil
	}()
	if err != nil {
		if ctx.Err() == nil {
			a.Log.Warn("bulk requests that wait could not be looked for; the next time will do it", "error", err)
		}
		return due
	}
	if a.Pending != nil {
		a.Pending(n)
	}
	slices.SortFunc(due, func(x, y asyncPlace) int { return cmp.Or(since[x].Compare(since[y]), cmp.Compare(x.txn, y.txn)) })
	return due
}

// carryOut carries a request out, if it is due and nobody else does.
func (a *Async) carryOut(ctx context.Context, p asyncPlace) {
	if ctx.Err() != nil {
		return
	}
	r, err := a.claim(ctx, p)
	if err != nil {
		if !errors.Is(err, storage.ErrConflict) && ctx.Err() == nil {
			a.Log.Warn("a bulk request could not be begun; a later attempt will do it", "txn", p.txn, "error", err)
		}
		return
	}
	if r == nil {
		return
	}
	// What is begun is not cut off.
	err = a.attempt(context.WithoutCancel(ctx), ctx, p, *r)
	if err == nil {
		if a.forget(p.txn); a.Done != nil {
			a.Done()
		}
		return
	}
	if errors.Is(err, errTaken) {
		return
	}
	if !errors.Is(err, errStopping) {
		a.Log.Warn("a bulk request did not come to its end; it is tried again", "txn", p.txn, "error", err)
	}
	if err := a.release(context.WithoutCancel(ctx), p, r.Lease, errors.Is(err, errStopping)); err != nil {
		a.Log.Warn("a bulk request could not be given back; it is taken up when its lease has ended", "txn", p.txn, "error", err)
	}
}

// claim takes a lease on a request, and returns nil if there is nothing to do.
func (a *Async) claim(ctx context.Context, p asyncPlace) (claimed *asyncRecord, err error) {
	err = a.Provider.Store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		claimed = nil
		i, err := tx.Item(asyncKind, p.txn)
		if errors.Is(err, storage.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := readAsync(i)
		if err != nil {
			return err
		}
		now := a.now()
		if !r.Done.IsZero() || !r.due(now) {
			return nil
		}
		r.taken = r.Lease != ""
		r.Attempts, r.Lease, r.Due = r.Attempts+1, rand.Text(), now.Add(lease)
		if err := a.put(tx, i, p.txn, r); err != nil {
			return err
		}
		claimed = &r
		return tx.Audit(a.entry(p.tenant, "bulk.attempt", p.txn))
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// renew keeps a lease.
func (a *Async) renew(ctx context.Context, tenant storage.TenantID, txn, held string) error {
	return a.Provider.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		i, r, err := a.held(tx, txn, held)
		if err != nil {
			return err
		}
		r.Due = a.now().Add(lease)
		return errors.Join(a.put(tx, i, txn, r), tx.Audit(a.entry(tenant, "bulk.renew", txn)))
	})
}

// release gives a request back, to be taken up at once, or after a while if it could
// not be carried out.
func (a *Async) release(ctx context.Context, p asyncPlace, held string, now bool) error {
	ctx, cancel := context.WithTimeout(ctx, noteWithin)
	defer cancel()
	return a.Provider.Store.Write(ctx, p.tenant, func(tx storage.Tx) error {
		i, r, err := a.held(tx, p.txn, held)
		if err != nil {
			return err
		}
		r.Lease, r.Due = "", a.now()
		if now {
			r.Attempts--
		} else {
			r.Due = r.Due.Add(min(time.Duration(r.Attempts)*10*time.Second, longestPause))
		}
		return errors.Join(a.put(tx, i, p.txn, r), tx.Audit(a.entry(p.tenant, "bulk.postpone", p.txn)))
	})
}

// attempt carries out what is still to do of a request, and stores its result.
func (a *Async) attempt(ctx, stopping context.Context, p asyncPlace, r asyncRecord) error {
	store := a.Provider.Store
	sealed, err := store.Item(ctx, p.tenant, sealedKind, p.txn)
	if err != nil {
		return err
	}
	raw, err := openRequest(a.Keys, p.tenant, sealed)
	if err != nil {
		return err
	}
	b, err := newBulk(ctx, a.Provider, auth.Principal{Kind: auth.Client, Tenant: p.tenant, ID: r.Client, From: r.From}, r.Base)
	if err != nil {
		return err
	}
	b.steps = &steps{
		a: a, tenant: p.tenant, txn: p.txn, lease: r.Lease, expires: r.Accepted.Add(keptWaiting), last: r.Attempts == asyncAttempts,
		taken: r.taken, stopping: stopping, renewed: a.now(),
	}
	if r.Attempts > asyncAttempts {
		b.refused = &Error{Status: http.StatusServiceUnavailable, Detail: "it was given up after too many attempts: send it again"}
	}
	if err := b.ask(); err != nil { // the profile decides how it is read
		return err
	}
	if err := b.read(raw); err != nil {
		return err
	}
	if err := b.resume(ctx); err != nil {
		return err
	}
	if b.run(); b.stop != nil {
		return b.stop
	}
	var result []byte
	for part := range b.response() {
		result = append(result, part...)
	}
	var completions []storage.AuditEntry
	if a.Tells != nil {
		tells, err := a.Tells(ctx, p.tenant)
		if err != nil {
			return err
		}
		if tells {
			completions = b.completions()
		}
	}
	return store.Write(ctx, p.tenant, func(tx storage.Tx) error { return a.finish(tx, p, r.Lease, result, completions) })
}

// completions are the events that tell of the end of each operation (RFC 9967 §2.5.1.2).
func (b *bulk) completions() (list []storage.AuditEntry) {
	for _, o := range b.ops {
		if !o.done {
			continue
		}
		id := b.operationTxn(o)
		e := b.steps.a.entry(b.steps.tenant, "bulk.operation", id)
		e.Version = 1 // it is an event
		members := [][2]string{{"method", o.method}, {"bulkId", o.bulkID}, {"status", strconv.Itoa(o.status())}, {"location", o.location()}, {"version", o.etag()}}
		if o.t != nil && o.location() == "" {
			members = append(members, [2]string{"path", o.t.Endpoint})
		}
		if o.err != nil {
			told := ErrorFor(o.err)
			members = append(members, [2]string{"scimType", string(told.Type)}, [2]string{"detail", told.Repeatable()})
		}
		var c storage.Changes
		if o.t != nil {
			c.Add(AsyncResourceType, nil, schemas.AppendString(nil, o.t.Name))
		}
		for _, v := range members {
			if v[1] != "" {
				c.Add(v[0], nil, schemas.AppendString(nil, v[1]))
			}
		}
		e.Changes = c.List
		list = append(list, e)
	}
	return list
}

// finish puts the result of a request in the place of what it was.
func (a *Async) finish(tx storage.Tx, p asyncPlace, held string, result []byte, completions []storage.AuditEntry) error {
	i, r, err := a.held(tx, p.txn, held)
	if err != nil {
		return err
	}
	steps, err := tx.Items(stepKind, p.txn)
	if err != nil {
		return err
	}
	sealed, err := tx.Item(sealedKind, p.txn)
	if err != nil {
		return err
	}
	for _, gone := range append(steps, sealed) {
		if err := tx.DeleteItem(gone); err != nil {
			return err
		}
	}
	r.Done, r.Lease = a.now(), ""
	if err := tx.PutItem(nil, &storage.Item{Kind: resultKind, ID: p.txn, Expires: a.readableUntil(r), Data: result}); err != nil {
		return err
	}
	if err := a.put(tx, i, p.txn, r); err != nil {
		return err
	}
	for _, e := range completions {
		if err := tx.Audit(e); err != nil {
			return err
		}
	}
	return tx.Audit(a.entry(p.tenant, "bulk.done", p.txn))
}

// prefersLater reports whether a client prefers not to wait for the end of a request
// (RFC 7240), and for how long it would.
func (h *Handler) prefersLater(r *http.Request, by auth.Principal) (wait time.Duration, later bool) {
	if h.Async == nil || by.Kind != auth.Client {
		return 0, false
	}
	waits := false
	for _, v := range r.Header.Values("Prefer") {
		for v != "" {
			var p string
			p, v = cutElement(v)
			p, _, _ = strings.Cut(p, ";")
			name, value, _ := strings.Cut(p, "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				later = true
			case "wait":
				if n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 16); err == nil && !waits {
					wait, waits = time.Duration(n)*time.Second, true // the first counts (RFC 7240 §2)
				}
			}
		}
	}
	return wait, later
}

// bulkLater accepts a bulk request, and answers in the usual way if it is done within
// wait.
func (h *Handler) bulkLater(w http.ResponseWriter, r *http.Request, by auth.Principal, wait time.Duration) error {
	h.Async.init()
	var txn string
	err := h.withRaw(r, by, func(_ *body, raw []byte) (err error) {
		b, err := newBulk(r.Context(), h.provider, by, h.base(r))
		if err != nil {
			return err
		}
		if err := b.read(raw); err != nil {
			return err
		}
		txn, err = h.Async.accept(r.Context(), by, h.base(r), raw)
		return err
	})
	if err != nil {
		return err
	}
	if wait > 0 {
		if result, err := h.Async.await(r.Context(), by, txn, wait); err == nil && result != nil {
			return writeBody(w, r, result.Data)
		}
	}
	w.Header().Set("Preference-Applied", "respond-async")
	h.accepted(w, r, txn)
	return nil
}

// accepted says where the result of a request is going to be.
func (h *Handler) accepted(w http.ResponseWriter, r *http.Request, txn string) {
	w.Header().Set("Set-Txn", txn)
	w.Header().Set("Location", h.base(r)+"/Bulk/"+txn)
	w.Header().Set("Retry-After", strconv.Itoa(pollAfter))
	w.WriteHeader(http.StatusAccepted)
}

func (h *Handler) bulkResult(w http.ResponseWriter, r *http.Request, by auth.Principal) error {
	if h.Async == nil {
		return storage.ErrNotFound
	}
	txn := mux.Vars(r)["id"]
	result, err := h.Async.find(r.Context(), by, txn)
	switch {
	case err != nil:
		return err
	case result == nil:
		h.accepted(w, r, txn)
		return nil
	}
	return writeBody(w, r, result.Data)
}

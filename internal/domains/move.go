package domains

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/scim"
	"github.com/roster-id/roster/storage"
)

const (
	// stepUsers is how many users one step of a move looks at, and stepTime how long it
	// may take: less than a lease.
	stepUsers = 200
	stepTime  = 20 * time.Second
	// settleTime bounds how long it may take to write down what a step came to.
	settleTime = 10 * time.Second
	// leaseFor is for how long a process has a move to itself after each step.
	leaseFor = time.Minute
	// moveEvery is how often a process looks for moves that others have begun, more or
	// less: one question for each tenant.
	moveEvery = 20 * time.Second
	// maxSkipped is how many users that were skipped a move names.
	maxSkipped = 100
	// shown is how many pairs and conflicts a preview names.
	shown = 100

	activeKey = "active"
)

// State is how far a move is.
type State string

// The states of a move. The last two are final.
const (
	Running   State = "running"
	Paused    State = "paused"
	Cancelled State = "cancelled"
	Done      State = "done"
)

// Why a user was skipped, or a move paused by itself.
const (
	SkippedTaken   = "taken"   // somebody else has the name
	SkippedDenied  = "denied"  // whoever began the move may not change the user
	SkippedInvalid = "invalid" // the name or the user cannot be written
	PausedDenied   = "denied"  // whoever began the move may not change users any more
)

// Plan is a move to be made.
type Plan struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Emails bool   `json:"emails,omitzero"` // addresses under From are moved along
}

// Move is one that was begun.
type Move struct {
	ID string `json:"-"`
	Plan
	By       string    `json:"by"` // the id of the user in whose name it is made
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	State    State     `json:"state"`
	Reason   string    `json:"reason,omitzero"` // of a pause that nobody asked for
	Total    int       `json:"total"`           // users to move when it began
	// Moved counts users. When a process comes to a sudden end, those of the step that
	// was under way are moved and not counted.
	Moved   int       `json:"moved"`
	Skipped int       `json:"skipped"`
	Named   []Skipped `json:"named,omitempty"` // the first of those skipped

	Cursor string    `json:"cursor,omitzero"` // the id of the last user looked at
	Owner  string    `json:"owner,omitzero"`  // the process that has the lease
	Lease  time.Time `json:"lease,omitzero"`

	item *storage.Item
}

// Skipped is a user whom a move left alone.
type Skipped struct {
	User string `json:"user"`
	Why  string `json:"why"`
}

// Errors of moves.
var (
	// ErrMoving: another move is under way.
	ErrMoving = errors.New("another move is under way: let it end, or cancel it")
	// ErrState: the move is not in a state for that.
	ErrState = errors.New("the move cannot be changed like this any more")
)

func moveFrom(i *storage.Item) (*Move, error) {
	m := &Move{ID: i.ID, item: i}
	if err := json.Unmarshal(i.Data, m); err != nil || m.State == "" {
		return nil, errors.New("a stored move is damaged")
	}
	return m, nil
}

func (m *Move) put(tx storage.Tx) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	i := &storage.Item{Kind: moveKind, ID: m.ID, Data: data}
	if m.State == Running || m.State == Paused {
		i.Keys = []string{activeKey}
	}
	return tx.PutItem(m.item, i)
}

// rename returns what a name under From becomes.
func (p Plan) rename(name string) (string, bool) {
	local, ok := Under(name, p.From)
	return local + "@" + p.To, ok
}

// check brings a plan into its canonical form, and finds out whether it can be made.
func (k *Keeper) check(ctx context.Context, by auth.Principal, p Plan) (Plan, error) {
	if !by.May(auth.Update, auth.PrincipalUser) {
		return p, auth.ErrNotPermitted
	}
	for _, m := range []struct {
		member string
		name   *string
	}{{"from", &p.From}, {"to", &p.To}} {
		if *m.name == Default(by.Tenant) {
			continue
		}
		canonical, err := Normalize(*m.name)
		if err != nil {
			e, _ := errors.AsType[*auth.InvalidError](err)
			return p, &auth.InvalidError{Member: m.member, Expected: e.Expected}
		}
		*m.name = canonical
	}
	if p.From == p.To {
		return p, &auth.InvalidError{Member: "to", Expected: "another domain than from"}
	}
	if p.To == Default(by.Tenant) {
		return p, nil
	}
	d, err := k.Find(ctx, by.Tenant, p.To)
	if errors.Is(err, storage.ErrNotFound) || err == nil && d.Verified.IsZero() {
		err = ErrUnproven
	}
	return p, err
}

// Preview is what a move would come to.
type Preview struct {
	Plan
	Total     int        // users under From
	Pairs     []Pair     // the first of them
	Conflicts []Conflict // the first of those whose new name somebody has
	// Conflicted and Administrators count them all; the latter are those with
	// administrative roles, or links to other tenants, whom not everybody may change.
	Conflicted     int
	Administrators int
}

// Pair is a user with the name before and after.
type Pair struct {
	User, Before, After string
	Administrator       bool
}

// Conflict is a name that somebody else has.
type Conflict struct {
	Pair
	TakenBy string // the id of that user
}

// Preview says what a move would come to now. The error is that of Begin.
func (k *Keeper) Preview(ctx context.Context, by auth.Principal, p Plan) (*Preview, error) {
	p, err := k.check(ctx, by, p)
	if err != nil {
		return nil, err
	}
	taken := map[string]string{} // who has a name under To, by its folded form
	err = k.each(ctx, by.Tenant, p.To, func(r *storage.Resource) { taken[schemas.Fold(userName(r))] = r.ID })
	if err != nil {
		return nil, err
	}
	out := &Preview{Plan: p, Pairs: []Pair{}, Conflicts: []Conflict{}}
	var ids []string
	var pairs []Pair
	err = k.each(ctx, by.Tenant, p.From, func(r *storage.Resource) {
		name := userName(r)
		after, ok := p.rename(name)
		if !ok {
			return
		}
		pairs, ids = append(pairs, Pair{User: r.ID, Before: name, After: after}), append(ids, r.ID)
	})
	if err != nil {
		return nil, err
	}
	privileged, err := k.Provider.Privileged(ctx, by.Tenant, ids)
	if err != nil {
		return nil, err
	}
	out.Total, out.Administrators = len(pairs), len(privileged)
	for i, pair := range pairs {
		pair.Administrator = privileged[pair.User]
		if i < shown {
			out.Pairs = append(out.Pairs, pair)
		}
		if who := taken[schemas.Fold(pair.After)]; who != "" {
			if out.Conflicted++; len(out.Conflicts) < shown {
				out.Conflicts = append(out.Conflicts, Conflict{pair, who})
			}
		}
	}
	return out, nil
}

// each calls fn for the users under a domain.
func (k *Keeper) each(ctx context.Context, tenant storage.TenantID, domain string, fn func(*storage.Resource)) error {
	page, err := k.under(ctx, tenant, domain, 1<<30)
	if err != nil {
		return err
	}
	return page.Each(ctx, func(list []*storage.Resource) error {
		for _, r := range list {
			fn(r)
		}
		return nil
	})
}

func userName(r *storage.Resource) string {
	var doc struct {
		UserName string `json:"userName"`
	}
	_ = json.Unmarshal(r.Doc, &doc) // of what is damaged there is no name
	return doc.UserName
}

// Begin begins a move, which goes on by itself. The error is auth.ErrNotPermitted, an
// *auth.InvalidError, ErrUnproven or ErrMoving.
func (k *Keeper) Begin(ctx context.Context, by auth.Principal, p Plan) (*Move, error) {
	p, err := k.check(ctx, by, p)
	if err != nil {
		return nil, err
	}
	page, err := k.under(ctx, by.Tenant, p.From, 0)
	if err != nil {
		return nil, err
	}
	m := &Move{ID: storage.NewID(), Plan: p, By: by.ID, Started: k.now(), State: Running, Total: page.TotalResults}
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		if err := tx.Guard(moveKind); err != nil {
			return err
		}
		active, err := tx.Items(moveKind, activeKey)
		if err != nil {
			return err
		}
		if len(active) > 0 {
			return ErrMoving
		}
		if err := m.put(tx); err != nil {
			return err
		}
		return tx.Audit(moveEntry(ctx, by, m.Started, "begin", m.ID, "plan", nil, p))
	})
	if err != nil {
		return nil, err
	}
	k.nudge()
	return m, nil
}

// nudge has this process look for moves now.
func (k *Keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func moveEntry(ctx context.Context, by auth.Principal, at time.Time, action, id, path string, before, after any) storage.AuditEntry {
	e := entry(ctx, by, at, action, id, path, before, after)
	e.Action, e.Type = "domainmove."+action, "DomainMove"
	return e
}

// Moves returns the moves of a tenant, the first begun first.
func (k *Keeper) Moves(ctx context.Context, tenant storage.TenantID) ([]*Move, error) {
	items, err := k.Store.Items(ctx, tenant, moveKind, "")
	if err != nil {
		return nil, err
	}
	list := make([]*Move, len(items))
	for n, i := range items {
		if list[n], err = moveFrom(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// FindMove returns a move, or storage.ErrNotFound.
func (k *Keeper) FindMove(ctx context.Context, tenant storage.TenantID, id string) (*Move, error) {
	i, err := k.Store.Item(ctx, tenant, moveKind, id)
	if err != nil {
		return nil, err
	}
	return moveFrom(i)
}

// SetState pauses a move, lets it go on, or cancels it: what it has moved stays. The step
// under way may be finished first. A move that goes on does so in the name of by. The
// error is storage.ErrNotFound, ErrState or auth.ErrNotPermitted.
func (k *Keeper) SetState(ctx context.Context, by auth.Principal, id string, to State) (m *Move, err error) {
	if !by.May(auth.Update, auth.PrincipalUser) {
		return nil, auth.ErrNotPermitted
	}
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		i, err := tx.Item(moveKind, id)
		if err != nil {
			return err
		}
		if m, err = moveFrom(i); err != nil {
			return err
		}
		from := m.State
		switch {
		case from == Running && (to == Paused || to == Cancelled), from == Paused && (to == Running || to == Cancelled):
		default:
			return ErrState
		}
		now := k.now()
		m.State, m.Reason = to, ""
		switch to {
		case Running:
			m.By = by.ID
		case Cancelled:
			m.Finished = now
		}
		if err := m.put(tx); err != nil {
			return err
		}
		return tx.Audit(moveEntry(ctx, by, now, "change", id, "state", from, to))
	})
	if err == nil {
		k.nudge()
	}
	return m, err
}

// Run makes what moves there are go on, and looks at the proofs of domains, until ctx
// ends.
func (k *Keeper) Run(ctx context.Context) error {
	owner := uuid.NewString()
	var checked time.Time
	for {
		if err := k.advance(ctx, owner); err != nil && ctx.Err() == nil {
			k.warn("a move of user names could not go on; the next time will do it", "error", err)
		}
		if now := k.Now(); now.Sub(checked) > time.Hour {
			checked = now
			if err := k.Check(ctx); err != nil && ctx.Err() == nil {
				k.warn("the proofs of domains could not be looked at; the next time will do it", "error", err)
			}
		}
		select {
		case <-k.wake:
		case <-time.After(moveEvery/2 + rand.N(moveEvery)):
		case <-ctx.Done():
			return nil
		}
	}
}

// advance takes steps of all moves that nobody else is at, until there are none.
func (k *Keeper) advance(ctx context.Context, owner string) error {
	tenants, err := k.Store.ListTenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		items, err := k.Store.Items(ctx, t.ID, moveKind, activeKey)
		if err != nil {
			return err
		}
		for _, i := range items {
			for more := true; more; {
				if more, err = k.Step(ctx, t.ID, i.ID, owner); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Step takes one step of a move for a process that is called owner, and reports whether
// it can take another one.
func (k *Keeper) Step(ctx context.Context, tenant storage.TenantID, id, owner string) (more bool, err error) {
	m, err := k.lease(ctx, tenant, id, owner)
	if m == nil || err != nil {
		return false, err
	}
	by, err := k.principal(ctx, tenant, m.By)
	if err != nil {
		return false, err
	}
	s := step{cursor: m.Cursor}
	if by.May(auth.Update, auth.PrincipalUser) {
		err = k.work(ctx, by, m, &s)
	} else {
		s.denied = true
	}
	if err != nil && s.cursor == m.Cursor {
		return false, err
	}
	more, settled := k.settle(ctx, by, id, owner, m.Cursor, s)
	return more && err == nil, errors.Join(err, settled)
}

// step is what one came to.
type step struct {
	cursor  string
	moved   int
	skipped []Skipped
	ended   bool // there is nobody behind it
	denied  bool // nobody was looked at: whoever began the move may not go on
}

// lease takes a move for a process, or returns nil if there is nothing to do, or another
// process is at it.
func (k *Keeper) lease(ctx context.Context, tenant storage.TenantID, id, owner string) (m *Move, err error) {
	m, err = k.FindMove(ctx, tenant, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	now := k.now()
	if err != nil || m.State != Running || m.Owner != owner && !storage.Due(m.Lease, now, leaseFor) {
		return nil, err
	}
	if m.Owner == owner && now.Add(stepTime).Before(m.Lease) {
		return m, nil
	}
	err = k.Store.Write(ctx, tenant, func(tx storage.Tx) error {
		next := *m
		next.Owner, next.Lease = owner, now.Add(leaseFor)
		if err := next.put(tx); err != nil {
			return err
		}
		return tx.Audit(moveEntry(ctx, auth.System(tenant), now, "take", id, "", nil, nil))
	})
	if errors.Is(err, storage.ErrConflict) {
		return nil, nil
	}
	return m, err
}

// principal is a user as somebody who has given a passcode, with what they may do now;
// one who is blocked or gone may do nothing. Administrative roles, for which the passcode
// has to be fresh, are no matter of moves.
func (k *Keeper) principal(ctx context.Context, tenant storage.TenantID, user string) (auth.Principal, error) {
	by := auth.Principal{Kind: auth.User, Tenant: tenant, ID: user}
	r, err := k.Store.Get(ctx, tenant, auth.PrincipalUser, user)
	if errors.Is(err, storage.ErrNotFound) {
		return by, nil
	}
	if err != nil {
		return by, err
	}
	if !auth.Active(r) {
		return by, nil
	}
	roles, err := auth.EffectiveRoles(ctx, k.Store, tenant, user, k.now())
	if err != nil {
		return by, err
	}
	by.Level = auth.MFA
	by.Permissions, by.Roles = auth.PermissionsOf(roles)
	return by, nil
}

// work looks at the next users in the order of their ids.
func (k *Keeper) work(ctx context.Context, by auth.Principal, m *Move, s *step) error {
	deadline := k.now().Add(stepTime)
	q := storage.Query{Type: auth.PrincipalUser, Walk: true, Count: stepUsers}
	if m.Cursor != "" {
		q.After = &storage.Mark{ID: m.Cursor}
	}
	page, err := k.Store.Query(ctx, by.Tenant, q)
	if err != nil {
		return err
	}
	// They are read whole before any is written: a page holds a reader.
	var ids []string
	var names []string
	err = page.Each(ctx, func(list []*storage.Resource) error {
		for _, r := range list {
			ids, names = append(ids, r.ID), append(names, userName(r))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if k.now().After(deadline) {
			return nil
		}
		if _, ok := m.rename(names[i]); ok {
			moved, err := k.Provider.Rename(ctx, by, id, m.Emails, m.rename)
			switch why := skips(err); {
			case err == nil && moved:
				s.moved++
			case why != "":
				s.skipped = append(s.skipped, Skipped{id, why})
			case err != nil && !errors.Is(err, storage.ErrNotFound): // deleted meanwhile
				return err
			}
		}
		s.cursor = id
	}
	s.ended = page.Last == nil
	return nil
}

// skips says why a user is left alone whose change failed, or "" if the move cannot go on.
func skips(err error) string {
	if err == nil {
		return ""
	}
	switch e := scim.ErrorFor(err); e.Status {
	case 409:
		return SkippedTaken
	case 401, 403:
		return SkippedDenied
	case 400, 413:
		return SkippedInvalid
	}
	return ""
}

// settle writes down what a step came to. If the move was paused or cancelled meanwhile it
// stays so; if another process has it now, that one takes the step again. The end of the
// process does not keep it from that: who was moved would be counted by nobody.
func (k *Keeper) settle(ctx context.Context, by auth.Principal, id, owner, from string, s step) (more bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	var done *Move
	err = k.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		done = nil
		i, err := tx.Item(moveKind, id)
		if err != nil {
			return err
		}
		m, err := moveFrom(i)
		if err != nil {
			return err
		}
		if m.Owner != owner || m.Cursor != from {
			return storage.ErrConflict
		}
		now := k.now()
		action := "progress"
		switch {
		case s.denied && m.State == Running:
			m.State, m.Reason, action = Paused, PausedDenied, "pause"
		case s.ended && m.State == Running:
			m.State, m.Finished, action = Done, now, "done"
		}
		if !s.denied {
			m.Cursor = s.cursor
		}
		before := m.Moved
		m.Moved += s.moved
		m.Skipped += len(s.skipped)
		m.Named = append(m.Named, s.skipped[:min(len(s.skipped), maxSkipped-len(m.Named))]...)
		m.Lease = now.Add(leaseFor)
		if err := m.put(tx); err != nil {
			return err
		}
		done = m
		return tx.Audit(moveEntry(ctx, by, now, action, id, "moved", before, m.Moved))
	})
	if errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil && done.State == Running, err
}

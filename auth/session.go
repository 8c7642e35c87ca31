package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

const (
	// SessionIdle is how long a session lasts without being used, to a minute.
	SessionIdle = 30 * time.Minute
	// SessionLength is how long a session lasts at most, whatever is done in it.
	SessionLength = 12 * time.Hour
	// MaxSessions is how many sessions a user has at most: another one ends the
	// oldest.
	MaxSessions = 10
	// StepUpAge is how long ago a passcode may have been given where one is
	// needed at the time.
	StepUpAge = 5 * time.Minute

	// extendEvery is how exact the time of a session's last use is.
	extendEvery = time.Minute
	// clockDrift is how far the clocks of two processes may be apart: what seems
	// to have happened later than that from now is not believed.
	clockDrift = 30 * time.Second
	// maxAgent bounds what is kept about the program that signed in.
	maxAgent = 200
)

// SessionPattern is a regular expression for the text of a session's token,
// unanchored, for secret scanners to be told of. The parts are a fixed prefix, the
// tenant (in base32hex, lower case), the secret (256 bits) and a checksum, made as
// in a TokenPattern.
const SessionPattern = `rostersession_[0-9a-v]+_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`

const sessionPrefix = "rostersession_"

// IsSession reports whether a text is a whole token of a session, and no other
// token.
func IsSession(text string) bool {
	_, _, ok := parseText(sessionPrefix, text)
	return ok
}

// SessionKind is the kind of the items that hold sessions, by the hash of their
// token, with the user's id as key. They expire when the session has been idle for
// too long.
const SessionKind = "session"

// session is what is stored of one.
type session struct {
	User    string    `json:"user"`
	Started time.Time `json:"started"`
	// When each proof was given, zero for never.
	PasswordAt time.Time `json:"passwordAt"`
	PasscodeAt time.Time `json:"passcodeAt,omitzero"`
	RecoveryAt time.Time `json:"recoveryAt,omitzero"`
	// Demand says that a conditional rule asks for a passcode.
	Demand bool `json:"demand,omitzero"`
	// Known says that it began on a device that the account had signed in from, Last
	// when it had signed in before, from wherever.
	Known bool      `json:"known,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Device is what becomes known when the sign-in is complete, empty if it is already.
	Device     string `json:"device,omitzero"`
	Level      Level  `json:"level"`
	Generation int64  `json:"generation,omitzero"` // see Credential
	From       string `json:"from,omitzero"`
	Agent      string `json:"agent,omitzero"`
	// Family is the id of the first session, if this one took its place.
	Family string `json:"family,omitzero"`
	Via    *via   `json:"via,omitzero"` // nil if it began in this tenant
}

// family is the same for a session and those that it goes on as.
func (s *storedSession) family() string { return cmp.Or(s.Family, s.item.ID) }

// ends is when a session is over, whatever is done in it: its item expires no later.
func (s *session) ends() time.Time { return s.Started.Add(SessionLength) }

// over reports whether a session has ended.
func (s *storedSession) over(c *Credential, now time.Time) bool {
	return !now.Before(s.item.Expires) || s.Started.Sub(now) > clockDrift || s.Generation != c.Generation
}

// level says what a session is good for, and what is missing for more.
func (s *session) level(c *Credential, administrator bool, now time.Time) (Level, []Lack) {
	passcode := within(s.PasscodeAt, SessionLength, now)
	switch {
	case s.Via != nil && passcode:
		return MFA, nil // what the account itself has to prove is not asked for
	case s.Via != nil:
		return Limited, []Lack{LacksPasscode}
	case c.Temporary:
		return Limited, []Lack{LacksPassword}
	case c.Pushed && administrator:
		return Limited, []Lack{LacksHandover}
	case passcode && !c.Reenrol:
		return MFA, nil
	case passcode, c.Reenrol && within(s.RecoveryAt, SessionLength, now):
		return Limited, []Lack{LacksEnrolment}
	case c.TOTP != nil && s.Demand:
		return Limited, []Lack{LacksPasscode}
	case c.TOTP != nil:
		return Password, []Lack{LacksPasscode}
	case administrator || s.Demand:
		return Limited, []Lack{LacksEnrolment}
	}
	return Password, nil
}

// lane is where attempts in the session are counted.
func (s *session) lane(now time.Time) laneName {
	switch {
	case within(s.PasscodeAt, SessionLength, now):
		return laneInside
	case s.Known:
		return laneKnown
	default:
		return laneStrangers
	}
}

// proved reports whether more than a password was given in the session.
func (s *session) proved() bool { return !s.PasscodeAt.IsZero() || !s.RecoveryAt.IsZero() }

// within reports whether something happened, and not longer ago than d.
func within(at time.Time, d time.Duration, now time.Time) bool {
	return !at.IsZero() && at.Sub(now) <= clockDrift && now.Sub(at) <= d
}

// PasscodeWithin reports whether p has given a passcode, in the session it is in,
// and not longer ago than d.
func (p Principal) PasscodeWithin(d time.Duration, now time.Time) bool {
	return p.Kind == User && p.Level == MFA && within(p.PasscodeAt, d, now)
}

// Lack is what a session would need for more than its level.
type Lack string

// What can be missing.
const (
	LacksPassword  Lack = "password"  // the temporary one has to be changed
	LacksHandover  Lack = "handover"  // somebody entitled has to give a temporary password or a link
	LacksEnrolment Lack = "enrolment" // a factor has to be enrolled
	LacksPasscode  Lack = "passcode"  // one can be given
)

// SignInResult is a session that has just begun.
type SignInResult struct {
	Token   Secret // kept nowhere else
	Session string // its public id
	User    string
	Level   Level
	Missing []Lack
	Ends    time.Time // at the latest
	// Last is when the user had signed in before, in the last 30 days, or zero.
	Last time.Time
}

// Session is one as it is shown to its user, and to those who look after users.
type Session struct {
	ID       string // public: it proves nothing
	Started  time.Time
	LastUsed time.Time // to a minute
	Ends     time.Time
	Level    Level
	From     string
	Agent    string
	// Tenant is the one in which the session began, if that is another one.
	Tenant storage.TenantID
}

var errUnproved = errors.New("a session of level mfa needs a passcode")

// issue begins a session. It is the one place where there are new ones. s is the
// session with what was proved in it, and the level follows from that; prev is the
// item of the one it takes the place of, or nil. c has been saved already.
func issue(tx storage.Tx, tenant storage.TenantID, s session, c *Credential, administrator bool, prev *storage.Item, now time.Time) (*SignInResult, error) {
	level, missing := s.level(c, administrator, now)
	if level == MFA && (c.TOTP == nil && s.Via == nil || s.PasscodeAt.IsZero()) {
		return nil, errUnproved
	}
	s.Level, s.Generation = level, c.Generation
	text, id, err := newText(rand.Reader, sessionPrefix, tenant)
	if err != nil {
		return nil, err
	}
	if prev != nil {
		s.Family = cmp.Or(s.Family, prev.ID)
		if err := tx.DeleteItem(prev); err != nil {
			return nil, err
		}
	}
	if err := makeRoom(tx, s.User, c, now); err != nil {
		return nil, err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	i := &storage.Item{Kind: SessionKind, ID: id, Keys: []string{s.User}, Expires: earlier(now.Add(SessionIdle), s.ends()), Data: data}
	if err := tx.PutItem(nil, i); err != nil {
		return nil, err
	}
	return &SignInResult{Token: text, Session: id, User: s.User, Level: level, Missing: missing, Ends: s.ends(), Last: s.Last}, nil
}

// makeRoom removes what has ended, and the oldest sessions of the lowest level if there
// are too many: whoever knows the password alone must not drive out by new sessions those
// in which a passcode was given.
func makeRoom(tx storage.Tx, user string, c *Credential, now time.Time) error {
	list, err := sessionsOf(tx.Items(SessionKind, user))
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b *storedSession) int { return cmp.Compare(b.Level, a.Level) })
	live := 0
	for _, s := range list { // the newest of the highest level first
		if !s.over(c, now) {
			if live++; live < MaxSessions {
				continue
			}
		}
		if err := tx.DeleteItem(s.item); err != nil {
			return err
		}
	}
	return nil
}

// storedSession is a session and its item.
type storedSession struct {
	session
	item *storage.Item
}

// sessionsOf reads sessions, the newest first.
func sessionsOf(items []*storage.Item, err error) ([]*storedSession, error) {
	list, err := readItems(items, err, sessionFrom)
	slices.SortStableFunc(list, func(a, b *storedSession) int { return b.Started.Compare(a.Started) })
	return list, err
}

func sessionFrom(i *storage.Item) (*storedSession, error) {
	s := &storedSession{item: i}
	if err := json.Unmarshal(i.Data, &s.session); err != nil {
		return nil, errors.New("the stored session is damaged")
	}
	return s, nil
}

// foundSession is sessionFrom for what a store returned. The error is a *RefusedError
// if there is no such session.
func foundSession(i *storage.Item, err error) (*storedSession, error) {
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuseUnknown
	}
	if err != nil {
		return nil, err
	}
	return sessionFrom(i)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// DropSessions ends all sessions of a user, in a write that records why, and returns
// how many there were. A sign-in of the user at the same time is no way around it.
// Links for a first password end too.
func DropSessions(tx storage.Tx, user string) (int, error) {
	c, err := ReadCredential(tx, user)
	if err != nil {
		return 0, err
	}
	if c.item != nil {
		c.Generation++
		if err := SaveCredential(tx, user, c); err != nil {
			return 0, err
		}
	}
	return dropSessions(tx, user)
}

// WritePassword stores a password that came over SCIM, as a hash, or
// removes the password if that is empty; the user's sessions end as with
// DropSessions.
func WritePassword(tx storage.Tx, user, hash string, at time.Time) (int, error) {
	c, err := ReadCredential(tx, user)
	if err != nil {
		return 0, err
	}
	c.PushPassword(hash, at)
	if err := SaveCredential(tx, user, c); err != nil {
		return 0, err
	}
	return dropSessions(tx, user)
}

// dropSessions is DropSessions for a credential whose generation has changed.
func dropSessions(tx storage.Tx, user string) (int, error) {
	if _, err := deleteItems(tx, setupKind, user); err != nil {
		return 0, err
	}
	return deleteItems(tx, SessionKind, user)
}

// deleteItems removes the items of a kind that a key finds, and returns how many
// there were.
func deleteItems(tx storage.Tx, kind, key string) (int, error) {
	items, err := tx.Items(kind, key)
	if err != nil {
		return 0, err
	}
	for _, i := range items {
		if err := tx.DeleteItem(i); err != nil {
			return 0, err
		}
	}
	return len(items), nil
}

// VerifySession returns the user whose session a token is of. from is the address
// the request comes from. The error is a *RefusedError, or what the store said when
// it could not answer. That a session or its user's account has ended, and which
// roles the user has, is noticed after half a second at most.
func (a *Authenticator) VerifySession(ctx context.Context, text string, from netip.Addr) (Principal, error) {
	tenant, id, ok := parseText(sessionPrefix, text)
	if !ok {
		return Principal{}, refuseMalformed
	}
	now := a.Now()
	known, epoch := a.recent.get(id, now)
	if known == nil {
		var err error
		if known, err = a.lookSession(ctx, tenant, id, now); err != nil {
			return Principal{}, err
		}
		a.recent.put(id, known, epoch)
	}
	if !now.Before(known.expires) {
		return Principal{}, refuseExpired
	}
	p := known.principal
	p.From = from
	return p, nil
}

// lookSession asks the store.
func (a *Authenticator) lookSession(ctx context.Context, tenant storage.TenantID, id string, now time.Time) (*knownSession, error) {
	i, err := a.Store.Item(ctx, tenant, SessionKind, id)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, refuseUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("look up a session: %w", err)
	}
	s, err := sessionFrom(i)
	if err != nil {
		return nil, err
	}
	c, err := FindCredential(ctx, a.Store, tenant, s.User)
	if err != nil {
		return nil, fmt.Errorf("look up a session: %w", err)
	}
	if s.over(c, now) {
		return nil, refuseExpired
	}
	u, err := a.account(ctx, tenant, s.User)
	if err != nil {
		return nil, fmt.Errorf("look up a session: %w", err)
	}
	if !u.active {
		return nil, refuseRevoked
	}
	if s.Via != nil {
		if err := a.stillThere(ctx, tenant, s, now); err != nil {
			return nil, err
		}
	}
	roles, err := EffectiveRoles(ctx, a.Store, tenant, s.User, now)
	if err != nil {
		return nil, fmt.Errorf("look up a session: %w", err)
	}
	level, _ := s.level(c, slices.ContainsFunc(roles, privileged), now)
	p := Principal{
		Kind: User, Tenant: tenant, ID: s.User, Name: u.userName,
		// A level that has become higher by itself is not given: nothing was proved.
		Session: id, Level: min(level, s.Level), Moved: s.Via != nil,
	}
	p.Permissions, p.Roles = PermissionsOf(roles)
	if p.Level == MFA {
		p.PasscodeAt = s.PasscodeAt
	}
	expires := i.Expires
	if next := storage.Milli(earlier(now.Add(SessionIdle), s.ends())); next.Sub(i.Expires) >= extendEvery {
		if err := a.Store.ExtendItem(ctx, tenant, SessionKind, id, next); err != nil {
			a.log().Warn("use of a session not noted", "error", err)
		} else {
			expires = next
		}
	}
	return &knownSession{principal: p, expires: expires, asked: now}, nil
}

// Sessions returns the sessions of a user, the newest first.
func (a *Authenticator) Sessions(ctx context.Context, tenant storage.TenantID, user string) ([]Session, error) {
	c, err := FindCredential(ctx, a.Store, tenant, user)
	if err != nil {
		return nil, err
	}
	stored, err := sessionsOf(a.Store.Items(ctx, tenant, SessionKind, user))
	if err != nil {
		return nil, err
	}
	now := a.Now()
	list := []Session{}
	for _, s := range stored {
		if s.over(c, now) {
			continue
		}
		list = append(list, Session{
			ID: s.item.ID, Started: s.Started, LastUsed: later(s.item.Expires.Add(-SessionIdle), s.Started), Ends: s.ends(),
			Level: s.Level, From: s.From, Agent: s.Agent, Tenant: s.Via.tenant(),
		})
	}
	return list, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// SignOut ends the session that by is in.
func (a *Authenticator) SignOut(ctx context.Context, by Principal) error {
	return a.EndSession(ctx, by, by.ID, by.Session)
}

// EndSession ends one session of a user. The error is storage.ErrNotFound if the
// user has no such session, or a *LevelError if a passcode was given in it and none by
// its owner who ends it.
func (a *Authenticator) EndSession(ctx context.Context, by Principal, user, id string) error {
	defer a.Invalidate(id)
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		if err := mayEnd(tx, by, user, now); err != nil {
			return err
		}
		i, err := tx.Item(SessionKind, id)
		if err != nil {
			return err
		}
		s, err := sessionFrom(i)
		switch {
		case err != nil || s.User != user:
			return errors.Join(err, storage.ErrNotFound)
		case s.Level == MFA && by.Kind == User && by.Level < MFA && id != by.Session:
			return errLevel
		}
		if err := tx.DeleteItem(i); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "session.end", user, now)
	})
}

// EndSessions ends all sessions of a user. The error is a *LevelError if passcodes are
// given in them and none was by their owner who ends them.
func (a *Authenticator) EndSessions(ctx context.Context, by Principal, user string) error {
	defer a.InvalidateUser(user)
	return a.Store.Write(ctx, by.Tenant, func(tx storage.Tx) error {
		now := storage.Milli(a.Now())
		if err := mayEnd(tx, by, user, now); err != nil {
			return err
		}
		if by.Kind == User && by.Level < MFA {
			c, err := ReadCredential(tx, user)
			switch {
			case err != nil:
				return err
			case c.TOTP != nil:
				return errLevel
			}
		}
		if _, err := DropSessions(tx, user); err != nil {
			return err
		}
		return a.audit(ctx, tx, by, "session.end", user, now)
	})
}

// mayEnd: everybody their own, and those of others who may.
func mayEnd(tx storage.Tx, by Principal, user string, now time.Time) error {
	if by.Kind == User && by.ID == user && by.Tenant != "" {
		return nil
	}
	return mayChangeCredentials(tx, by, user, PermissionUsersSessionsEnd, now)
}

// Invalidate forgets what is cached about a session.
func (a *Authenticator) Invalidate(session string) {
	a.recent.forget(func(id string, _ *knownSession) bool { return id == session })
}

// InvalidateUser forgets what is cached about the sessions of a user. Call it after
// a user was blocked or deleted, or has other roles.
func (a *Authenticator) InvalidateUser(user string) {
	a.recent.forget(func(_ string, s *knownSession) bool { return s.principal.ID == user })
}

// knownSession is what the store said about a session.
type knownSession struct {
	principal Principal
	expires   time.Time
	asked     time.Time
}

// recentSessions keeps what the store said for cacheFor. Only sessions that are good
// are kept.
type recentSessions struct {
	mu    sync.Mutex
	known map[string]*knownSession
	epoch uint64 // counts forget: what was asked before it is not put in after it
}

func (r *recentSessions) get(id string, now time.Time) (*knownSession, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.known[id]
	if s != nil {
		if age := now.Sub(s.asked); age < 0 || age >= cacheFor {
			s = nil
		}
	}
	return s, r.epoch
}

func (r *recentSessions) put(id string, s *knownSession, epoch uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	if r.known == nil {
		r.known = map[string]*knownSession{}
	}
	if _, ok := r.known[id]; !ok && len(r.known) >= cacheSize {
		for other := range r.known { // each is good for half a second only
			delete(r.known, other)
			break
		}
	}
	r.known[id] = s
}

func (r *recentSessions) forget(which func(string, *knownSession) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	for id, s := range r.known {
		if which(id, s) {
			delete(r.known, id)
		}
	}
}

// shortened returns what is kept about the program that signed in: no control
// characters, and not too much.
func shortened(agent string) string {
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return -1
		}
		return r
	}, agent)
	for n := range agent {
		if n > maxAgent {
			return agent[:n]
		}
	}
	return agent
}

// Current returns the session that by is in, without its token, with what it is good
// for now and what is missing for more. The error is a *RefusedError if it has ended.
func (a *Authenticator) Current(ctx context.Context, by Principal) (*SignInResult, error) {
	c, err := FindCredential(ctx, a.Store, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	s, err := foundSession(a.Store.Item(ctx, by.Tenant, SessionKind, by.Session))
	if err != nil {
		return nil, err
	}
	administrator, err := a.isAdministrator(ctx, by.Tenant, by.ID)
	if err != nil {
		return nil, err
	}
	_, missing := s.level(c, administrator, a.Now())
	return &SignInResult{Session: s.item.ID, User: s.User, Level: by.Level, Missing: missing, Ends: s.ends(), Last: s.Last}, nil
}

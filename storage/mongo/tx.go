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

	"github.com/roster-id/roster/storage"
)

// tx is a storage.Tx: one attempt at a write. Its methods collect changes, each
// with what it expects to find. Before a read that could depend on them, and at
// the end, they are sent (see flush). A careful tx reads first and sends at
// once, so it expects nothing that it does not know.
type tx struct {
	store   *Store
	ctx     context.Context
	tenant  string
	careful bool

	turn    *turn
	writes  []string        // what it changes that others may be after: resources, items, guards
	meets   string          // what the command under way changes on behalf of all writes of its kind; see meeting
	pending [4]changes      // by collection; see pendingOf
	roots   map[string]bool // groups that are in no group, as this write knows
	sent    bool            // some command
	guessed bool            // an answer was given that is not certain
	stamp   int64           // what orders its entries; 0 as long as none is needed
	stamped []string        // the ids of resources that have it
	entries []storage.AuditEntry
	changed bool // something other than the audit trail
	audited bool
	refused error // of an entry that was not recorded: the write cannot succeed
	lane    *held
	over    bool
	asks    bool // what is sent finds out whether the tenant is being loaded

	// Of a load.
	loading    bool  // it is known to be under way
	lastNumber int64 // the highest in the audit trail, if asked for
	counts     bool  // the counter has to follow

	failed error // the first error of the driver; nothing can follow it
}

// pendingOf are the collections whose changes are collected, in the order in
// which they are sent: without transactions a taken name has to be found before
// anything else is written.
var pendingOf = [4]string{keys, resources, items, rows}

const (
	ofKeys = iota
	ofResources
	ofItems
	ofRows
)

// changes are those of one collection, in order.
type changes []change

type change struct {
	insert bson.D // beginning with _id and tenant, or
	delete bson.D // a filter of one document that is there, or
	absent bson.D // one of a document that is not there, or
	filter bson.D // one of a document that is there, and
	update bson.D
}

// run is one attempt: everything but the commit.
func (t *tx) run(fn func(storage.Tx) error) error {
	err := call(fn, t)
	switch {
	case t.failed != nil:
		return t.failed
	case err == nil && t.refused != nil:
		err = t.refused
	case err == nil && t.changed && !t.audited:
		err = storage.ErrUnaudited
	case err == nil:
		t.record()
		err = t.flush()
	}
	t.over = true
	if err != nil && t.failed == nil && t.guessed && !t.careful {
		return errAgain // it may come of an answer that was not right
	}
	return err
}

// do runs what talks to the server.
func (t *tx) do(fn func(context.Context) error) error {
	if t.over {
		panic("storage.Tx used after Write returned")
	}
	if t.failed != nil {
		return t.failed
	}
	t.sent = true
	err := fn(t.ctx)
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		t.failed = err
	}
	return err
}

// await waits for the turn of a write that is going to change a resource or item,
// before its transaction begins: what that sees is then as the last one left it.
func (t *tx) await(id string) error {
	if t.sent || t.failed != nil {
		return t.failed
	}
	if err := t.turn.await(t.ctx, t.store.turns.of(key(t.tenant, id))); err != nil {
		t.failed = err
	}
	return t.failed
}

// contended is what other writes are likely to be after, too. Of a write that
// changes much, the first few stand for all: to queue for each would hold up
// everybody.
func (t *tx) contended() []string { return t.writes[:min(8, len(t.writes))] }

// conflict notes that another write was in the way.
func (t *tx) conflict() {
	for _, id := range t.contended() {
		t.store.turns.of(key(t.tenant, id)).conflict()
	}
	if t.meets != "" {
		t.store.turns.of(key(t.tenant, t.meets)).conflict()
	}
}

// meeting runs a command that changes what many writes of the tenant change. It
// mostly comes late in a write, when it is too late to wait for a turn: whoever is
// refused there waits before the next attempt (see Write).
func (t *tx) meeting(name string, fn func(context.Context) error) error {
	if err := t.await(name); err != nil {
		return err
	}
	t.meets = name
	err := t.do(fn)
	if t.failed == nil {
		t.meets = ""
	}
	return err
}

func (t *tx) add(which int, c change) {
	if t.over {
		panic("storage.Tx used after Write returned")
	}
	t.pending[which] = append(t.pending[which], c)
}

// guess notes that an answer rests on the expectations of pending changes, or
// finds out at once.
func (t *tx) guess() error {
	if t.careful {
		return t.flush()
	}
	t.guessed = true
	return nil
}

// flush sends pending changes: one command for each collection and kind of
// change that follows another kind. The error is errAgain when something was not
// as expected.
func (t *tx) flush() error {
	if len(t.pending[ofResources])+len(t.pending[ofItems]) > 0 {
		held := t.turn.held
		for _, id := range t.contended() {
			if err := t.await(id); err != nil {
				return err
			}
		}
		if held != t.turn.held && !t.careful {
			// Whoever had to wait was told of the resource before, and is probably
			// wrong by now: asking costs less than being refused.
			t.failed = errAgain
			return errAgain
		}
	}
	for i := range t.pending {
		list := t.pending[i]
		if len(list) == 0 {
			continue
		}
		t.pending[i] = nil
		err := t.do(func(ctx context.Context) error { return list.send(ctx, t.store.db.Collection(pendingOf[i])) })
		if err != nil {
			return err
		}
	}
	return t.count()
}

func (list changes) send(ctx context.Context, c *mongo.Collection) error {
	var inserts, updates, deletes int64
	for _, x := range list {
		switch {
		case x.insert != nil:
			inserts++
		case x.delete != nil:
			deletes++
		case x.absent == nil:
			updates++
		}
	}
	models := make([]mongo.WriteModel, len(list))
	for i, x := range list {
		switch {
		case x.insert != nil && inserts+deletes == int64(len(list)):
			models[i] = mongo.NewInsertOneModel().SetDocument(x.insert)
		case x.insert != nil: // as an update, so that it goes with the others in one command
			models[i] = mongo.NewUpdateOneModel().SetFilter(x.insert[:2]).SetUpdate(d("$setOnInsert", x.insert[2:])).SetUpsert(true)
		case x.delete != nil:
			models[i] = mongo.NewDeleteOneModel().SetFilter(x.delete)
		case x.absent != nil: // so does a question
			models[i] = mongo.NewUpdateOneModel().SetFilter(x.absent).SetUpdate(d("$inc", d(fMeeting, int64(1))))
		default:
			models[i] = mongo.NewUpdateOneModel().SetFilter(x.filter).SetUpdate(x.update)
		}
	}
	r, err := c.BulkWrite(ctx, models)
	if mongo.IsDuplicateKeyError(err) {
		return errAgain
	}
	if err != nil {
		return err
	}
	if made := r.InsertedCount + r.UpsertedCount; made != inserts || r.MatchedCount != updates || r.DeletedCount != deletes {
		return fmt.Errorf("%w: in %s, %d of %d were made, %d of %d changed, %d of %d deleted",
			errAgain, c.Name(), made, inserts, r.MatchedCount, updates, r.DeletedCount, deletes)
	}
	return nil
}

// live selects a resource that is not deleted.
func (t *tx) live(typ, id string) bson.D { return liveByID(t.tenant, id, typ) }

func (t *tx) Get(typ, id string) (r *storage.Resource, err error) {
	if err := t.await(id); err != nil {
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	err = t.do(func(ctx context.Context) error {
		r, err = t.store.getToChange(ctx, t.tenant, typ, id)
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		err = storage.ErrNotFound
	}
	if err == nil && !r.InGroups {
		t.root(r.ID)
	}
	return r, err
}

// Advance implements storage.Tx.
func (t *tx) Advance() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.changed = true
	return t.meeting(epochType, t.advance)
}

func (t *tx) advance(ctx context.Context) error {
	_, err := t.store.db.Collection(resources).UpdateOne(ctx, byID(t.tenant, epochID(t.tenant)),
		d("$inc", d(fVersion, int64(1)), "$setOnInsert", d(fType, epochType)), options.UpdateOne().SetUpsert(true))
	return taken(err)
}

// root notes that a resource is in no group.
func (t *tx) root(id string) {
	if t.roots == nil {
		t.roots = map[string]bool{}
	}
	t.roots[id] = true
}

// lock makes two writes that both do this, or add the resource to a group, meet:
// the later one runs again. Transactions see a snapshot, so what one of them only
// reads another may change. It is false for what does not exist.
func (t *tx) lock(typ, id string) (bool, error) {
	if t.careful {
		if err := t.flush(); err != nil {
			return false, err
		}
		if there, err := t.exists(resources, t.live(typ, id)); err != nil || !there {
			return false, err
		}
	}
	t.writes = append(t.writes, id)
	t.add(ofResources, change{filter: t.live(typ, id), update: d("$inc", d(fLock, int64(1)))})
	return true, t.guess()
}

// index returns the index of a resource to be written. One made for another
// tenant has the keys of that tenant.
func (t *tx) index(r *storage.Resource) (*index, error) {
	x, ok := r.Index.(*index)
	if !ok || x.tenant != t.tenant {
		return nil, fmt.Errorf("the index of %s %s was not made for this store and tenant", r.Type, r.ID)
	}
	return x, nil
}

func (t *tx) uniqueKey(typ, text string) string { return key(t.tenant, typ, text) }

// own takes a unique key for a resource.
func (t *tx) own(typ, text, id string) change {
	return change{insert: append(byID(t.tenant, t.uniqueKey(typ, text)), bson.E{Key: fOwner, Value: id})}
}

// disown gives up a key that is somebody's.
func disown(tenant, key, owner string) change {
	return change{delete: append(byID(tenant, key), bson.E{Key: fOwner, Value: owner})}
}

func (t *tx) Create(r *storage.Resource) error {
	x, err := t.index(r)
	if err != nil {
		return err
	}
	if t.careful {
		if err := t.free(r.Type, x.unique); err != nil {
			return err
		}
	}
	r.Ref = 0
	if err := t.follow(r); err != nil {
		return err
	}
	r.Ref = t.stamp
	t.changed = true
	t.root(r.ID)
	for i := range x.unique {
		t.add(ofKeys, t.own(r.Type, x.keys[i], r.ID))
	}
	t.add(ofResources, change{insert: resourceDocument(t.tenant, r, x)})
	return t.guess()
}

func resourceDocument(tenant string, r *storage.Resource, x *index) bson.D {
	return d(fID, key(tenant, r.ID), fTenant, tenant, fType, r.Type, fResource, r.ID, fVersion, r.Version,
		fCreated, r.Created.UnixMilli(), fModified, r.LastModified.UnixMilli(), fName, r.Name,
		fStamp, r.Ref, fKeys, x.keys, fUnique, len(x.unique), fShadow, x.shadow, fDoc, string(r.Doc))
}

// free finds out whether unique keys are free.
func (t *tx) free(typ string, unique []storage.Key) error {
	if len(unique) == 0 {
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	ids := make(bson.A, len(unique))
	for i, k := range unique {
		ids[i] = t.uniqueKey(typ, keyText(k))
	}
	first := len(ids) // of those that are taken
	err := t.do(func(ctx context.Context) error {
		return t.store.each(ctx, keys, byIDs(t.tenant, ids), func(raw bson.Raw) error {
			first = min(first, slices.Index(ids, any(text(raw, fID))))
			return nil
		}, look().fields(only(fID)))
	})
	if err == nil && first < len(ids) {
		err = &storage.UniqueError{Attr: unique[first].Path}
	}
	return err
}

func (t *tx) Update(prev, next *storage.Resource) error {
	t.writes = append(t.writes, prev.ID)
	if t.careful {
		if err := t.await(prev.ID); err != nil {
			return err
		}
	}
	if err := t.follow(prev); err != nil {
		return err
	}
	next.Ref = t.stamp
	if next.Doc == nil {
		return t.touch(prev, next)
	}
	to, err := t.index(next)
	if err != nil {
		return err
	}
	from := t.indexOf(prev, to)
	exact := t.careful || from == nil
	filter := append(t.live(prev.Type, prev.ID), bson.E{Key: fVersion, Value: prev.Version})
	var have []string // the unique keys it has
	if exact {
		if have, err = t.stored(prev); err != nil {
			return err
		}
	} else {
		have = from.keys[:len(from.unique)]
		// What is taken for its keys has to be what is stored.
		filter = append(filter, bson.E{Key: fKeys, Value: from.keys}, bson.E{Key: fUnique, Value: len(from.unique)})
	}
	var coming []storage.Key
	for i, k := range to.unique {
		if !slices.Contains(have, to.keys[i]) {
			coming = append(coming, k)
		}
	}
	if exact {
		if err := t.free(prev.Type, coming); err != nil {
			return err
		}
	}
	t.changed = true
	for _, k := range have {
		if !slices.Contains(to.keys[:len(to.unique)], k) {
			t.add(ofKeys, disown(t.tenant, t.uniqueKey(prev.Type, k), prev.ID))
		}
	}
	for _, k := range coming {
		t.add(ofKeys, t.own(prev.Type, keyText(k), prev.ID))
	}
	t.add(ofResources, change{filter: filter, update: d("$set", d(fVersion, next.Version, fModified, next.LastModified.UnixMilli(), fStamp, next.Ref, fName, next.Name,
		fKeys, to.keys, fUnique, len(to.unique), fShadow, to.shadow, fDoc, string(next.Doc)))})
	return t.guess()
}

// touch changes a version and no more.
func (t *tx) touch(prev, next *storage.Resource) error {
	if t.careful {
		if _, err := t.stored(prev); err != nil {
			return err
		}
	}
	t.changed = true
	t.add(ofResources, change{filter: append(t.live(prev.Type, prev.ID), bson.E{Key: fVersion, Value: prev.Version}),
		update: d("$set", d(fVersion, next.Version, fModified, next.LastModified.UnixMilli(), fStamp, next.Ref))})
	return t.guess()
}

// indexOf returns the keys of a resource as it was read, without asking, or nil.
func (t *tx) indexOf(r *storage.Resource, like *index) *index {
	if x, ok := r.Index.(*index); ok && x.tenant == t.tenant {
		return x
	}
	if r.Doc == nil {
		return nil
	}
	attrs, err := like.typ.Parse(r.Doc)
	if err != nil {
		return nil
	}
	return newIndex(t.tenant, like.typ, attrs, storage.NoShadow{})
}

// stored returns the unique keys of a resource. The error is ErrConflict unless
// its version is the stored one.
func (t *tx) stored(prev *storage.Resource) ([]string, error) {
	if err := t.flush(); err != nil {
		return nil, err
	}
	var raw bson.Raw
	err := t.do(func(ctx context.Context) (err error) {
		raw, err = t.store.db.Collection(resources).FindOne(ctx, t.live(prev.Type, prev.ID), options.FindOne().SetProjection(only(fVersion, fKeys, fUnique))).Raw()
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) || err == nil && number(raw, fVersion) != prev.Version {
		return nil, storage.ErrConflict
	}
	if err != nil {
		return nil, err
	}
	return uniqueOf(raw), nil
}

// uniqueOf returns the unique ones of a document's keys.
func uniqueOf(raw bson.Raw) []string {
	list := texts(raw, fKeys)
	return list[:max(0, min(int(number(raw, fUnique)), len(list)))]
}

func (t *tx) Delete(prev *storage.Resource, at time.Time) error {
	t.writes = append(t.writes, prev.ID)
	if err := t.await(prev.ID); err != nil {
		return err
	}
	if err := t.follow(prev); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	var raw bson.Raw
	err := t.do(func(ctx context.Context) (err error) {
		filter := append(t.live(prev.Type, prev.ID), bson.E{Key: fVersion, Value: prev.Version})
		update := d("$set", d(fType, deletedType(prev.Type), fDeleted, at.UnixMilli(), fStamp, t.stamp))
		how := options.FindOneAndUpdate()
		if t.store.can.projections {
			how.SetProjection(only(fKeys, fUnique, fGrouped))
		}
		raw, err = t.store.db.Collection(resources).FindOneAndUpdate(ctx, filter, update, how).Raw()
		return err
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return storage.ErrConflict
	}
	if err != nil {
		return err
	}
	t.changed = true
	if truth(raw, fGrouped) {
		// The memberships stay, hidden with the member; the groups have changed all
		// the same.
		if err := t.moveGroups(prev.ID, at); err != nil {
			return err
		}
	}
	for _, k := range uniqueOf(raw) {
		t.add(ofKeys, disown(t.tenant, t.uniqueKey(prev.Type, k), prev.ID))
	}
	return t.guess()
}

// Audit implements storage.Tx.
func (t *tx) Audit(e storage.AuditEntry) error {
	if err := e.Check(); err != nil {
		t.refused = err
		return err
	}
	t.audited = true
	t.lane.append(&e)
	t.entries = append(t.entries, e)
	return nil
}

// record adds the entries to what is sent last: only then is it known what they
// come after. All have the stamp of the write, and _ids in the order in which
// they were given.
func (t *tx) record() {
	for i := range t.entries {
		at := t.store.stamps.above(0)
		if t.stamp == 0 {
			t.stamp = at.n
		}
		t.add(ofRows, change{insert: entryDocument(t.tenant, at.text(), waiting, t.stamp, &t.entries[i])})
	}
}

// follow puts the stamp of the write above that of the last change of a resource
// that it changes.
func (t *tx) follow(r *storage.Resource) error {
	if err := t.above(r.Ref, r.ID); err != nil {
		return err
	}
	t.stamped = append(t.stamped, r.ID)
	return nil
}

func (t *tx) above(seen int64, id string) error {
	if t.stamp > seen || t.stamp == seen && slices.Contains(t.stamped, id) {
		return nil
	}
	late := t.stamp != 0
	t.stamp = t.store.stamps.above(seen).n
	if late && t.store.can.transactions {
		// Others have been given the lower one already. From now on all are higher.
		t.failed = errAgain
		return errAgain
	}
	return nil
}

// entryDocument is an entry of the audit trail. at tells it from all others of the
// tenant.
func entryDocument(tenant, at, kind string, n int64, e *storage.AuditEntry) bson.D {
	doc := d(fID, key(tenant, "a", at), fTenant, tenant, fKind, kind, fNumber, n, fAt, millis(e.At),
		fActor, e.Actor, fAction, e.Action)
	for _, f := range []struct{ name, value string }{{fRequest, e.RequestID}, {fType, e.Type}, {fResource, e.ID}, {fFrom, e.From}, {fLevel, e.Level}, {fChain, e.Chain}} {
		if f.value != "" {
			doc = append(doc, bson.E{Key: f.name, Value: f.value})
		}
	}
	if e.Version != 0 {
		doc = append(doc, bson.E{Key: fVersion, Value: e.Version})
	}
	if len(e.Attributes) > 0 {
		doc = append(doc, bson.E{Key: fAttributes, Value: e.Attributes})
	}
	if len(e.Changes) > 0 {
		doc = append(doc, bson.E{Key: fChanges, Value: bson.Binary{Data: storage.AppendChanges(nil, e.Changes)}})
	}
	if e.Chain != "" {
		doc = append(doc, bson.E{Key: fLink, Value: e.N}, bson.E{Key: fSum, Value: bson.Binary{Data: e.Hash}})
	}
	return doc
}

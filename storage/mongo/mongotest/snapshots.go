package mongotest

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// snapshotWindow is how long a past state can be read, as in MongoDB unless it is
// told otherwise.
const snapshotWindow = 5 * time.Minute

// inSnapshot runs a read at one time: that which the client names, or the
// present, of which the reply tells. A session can come back to the newest
// snapshot it was told of. No other past is kept, so a client that knows the
// time from elsewhere is told that it is too old.
func (r *request) inSnapshot() (bson.D, error) {
	switch r.name {
	case "find", "aggregate":
	case "getMore", "killCursors": // a cursor stays at the time it was opened at
		return r.command.run(r)
	default:
		return nil, errorf(invalidOptions, "Command %s does not support { readConcern: { level: \"snapshot\", provenance: \"clientSupplied\" } }", r.name)
	}
	v := r.engine.newest()
	if at := *r.snapshot; !at.IsZero() {
		if r.session != nil {
			v = r.session.past
		}
		if r.session == nil || v == nil || v.time != at || time.Since(v.shown) > snapshotWindow {
			return nil, errorf(snapshotTooOld, "Read timestamp %v is older than the oldest available timestamp.", at)
		}
	} else if r.session != nil {
		r.session.past = v
	}
	r.past = v.state
	reply, err := r.command.run(r)
	if err != nil {
		return nil, err
	}
	cursor, _ := reply[0].Value.(bson.D)
	cursor = append(cursor, bson.E{Key: "atClusterTime", Value: v.time})
	return bson.D{{Key: "cursor", Value: cursor}}, nil
}

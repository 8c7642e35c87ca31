package mongotest

import (
	"cmp"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// writeConcern is what a client asks for before a write is acknowledged.
type writeConcern struct {
	w any // a number of members, "majority", or the name of another rule
}

// concerns takes the read and write concern from the arguments. The double has
// one member whose data is in memory, so all it can promise it always does.
func (r *request) concerns() error {
	if r.has("readConcern") {
		c, err := parseArguments("readConcern", r.raw("readConcern"))
		if err != nil {
			return err
		}
		r.ignore("readConcern")
		r.readConcern = true
		level, at := c.text("level"), c.value("atClusterTime")
		c.ignore("afterClusterTime", "provenance")
		if level != "" && !slices.Contains([]string{"local", "available", "majority", "linearizable", "snapshot"}, level) {
			return errorf(badValue, "Enumeration value '%s' for field 'readConcern.level' is not a valid value.", level)
		}
		if err := c.done(); err != nil {
			return err
		}
		if r.snapshot, err = r.snapshotConcern(level, at); err != nil {
			return err
		}
	}
	if r.has("writeConcern") {
		c, err := parseArguments("writeConcern", r.raw("writeConcern"))
		if err != nil {
			return err
		}
		r.ignore("writeConcern")
		w := c.value("w")
		c.ignore("j", "wtimeout", "fsync", "provenance")
		if err := c.done(); err != nil {
			return err
		}
		if !r.command.write && r.name != "aggregate" {
			return errorf(invalidOptions, "Command %s does not support writeConcern", r.name)
		}
		if n, ok := integer(w); ok && n < 0 || w != nil && !ok && classOf(w) != classString {
			return errorf(failedToParse, "w has to be a number greater than or equal to 0, or a string")
		}
		r.writeConcern = &writeConcern{w}
	}
	return nil
}

// snapshotConcern returns the time that a read concern asks for, nil unless its
// level is snapshot. Zero stands for the present.
func (r *request) snapshotConcern(level string, at any) (*bson.Timestamp, error) {
	time, isTime := at.(bson.Timestamp)
	switch {
	case at != nil && !isTime:
		return nil, errorf(typeMismatch, "readConcern.atClusterTime has to be a timestamp")
	case at != nil && level != "snapshot":
		return nil, errorf(invalidOptions, "readConcern.atClusterTime field can be set only if readConcern.level is equal to snapshot")
	case level != "snapshot":
		return nil, nil
	case r.double.config.Standalone:
		return nil, errorf(notAReplicaSet, "node needs to be a replica set member to use readConcern: snapshot")
	}
	return &time, nil
}

// concernError says that a write was done and that what the client asked for
// beyond that cannot be had, or nil.
func (r *request) concernError() bson.D {
	if r.writeConcern == nil {
		return nil
	}
	code, message := int32(0), ""
	switch w := r.writeConcern.w.(type) {
	case string:
		if w != "majority" {
			code, message = unknownReplWriteConcern, "No write concern mode named '"+w+"' found in replica set configuration"
		}
	default:
		if n, _ := integer(w); n > 1 {
			code, message = unsatisfiableWriteConcern, "Not enough data-bearing nodes"
		}
	}
	if code == 0 {
		return nil
	}
	return bson.D{{Key: "code", Value: code}, {Key: "codeName", Value: codeName(code)}, {Key: "errmsg", Value: message}}
}

func getDefaultRWConcern(r *request) (bson.D, error) {
	r.ignore("inMemory")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.double.config.Standalone {
		return nil, errorf(notSupportedOnStandalone, "'getDefaultRWConcern' is not supported on standalone nodes.")
	}
	if r.db != "admin" {
		return nil, errorf(unauthorized, "getDefaultRWConcern may only be run against the admin database.")
	}
	w, source := any("majority"), "implicit"
	if r.double.config.DefaultWriteConcern != nil {
		w, source = r.double.config.DefaultWriteConcern, "global"
	}
	write := bson.D{{Key: "w", Value: w}, {Key: "wtimeout", Value: int32(0)}}
	if r.double.config.Unjournaled {
		write = append(write, bson.E{Key: "j", Value: false})
		source = "global"
	}
	return bson.D{
		{Key: "defaultReadConcern", Value: bson.D{{Key: "level", Value: cmp.Or(r.double.config.DefaultReadConcern, "local")}}},
		{Key: "defaultWriteConcern", Value: write},
		{Key: "defaultWriteConcernSource", Value: source},
		{Key: "defaultReadConcernSource", Value: "implicit"},
	}, nil
}

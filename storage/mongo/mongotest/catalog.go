package mongotest

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func createCollection(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	r.ignore("idIndex")
	r.refuse("capped", "size", "max", "validator", "validationLevel", "validationAction", "viewOn", "pipeline",
		"collation", "timeseries", "expireAfterSeconds", "clusteredIndex", "changeStreamPreAndPostImages",
		"indexOptionDefaults", "storageEngine", "encryptedFields", "autoIndexId", "temp")
	if err := r.done(); err != nil {
		return nil, err
	}
	exists := errorf(namespaceExists, "Collection %s already exists.", ns)
	if r.txn != nil {
		return bson.D{}, r.engine.write(r.ctx, r.txn, func(t *txn) error {
			if t.collection(ns) != nil {
				return exists
			}
			return t.create(ns)
		})
	}
	if r.engine.current()[ns] != nil {
		return nil, exists // without waiting for anybody
	}
	return bson.D{}, r.engine.define(r.ctx, ns.is, func(s state) (map[namespace]*collection, error) {
		if s[ns] != nil {
			return nil, exists
		}
		return map[namespace]*collection{ns: newCollection(r.engine.next())}, nil
	})
}

func dropCollection(r *request) (bson.D, error) {
	ns, err := r.namespace()
	if err != nil {
		return nil, err
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	reply := bson.D{}
	return reply, r.engine.define(r.ctx, ns.is, func(s state) (map[namespace]*collection, error) {
		c := s[ns]
		if c == nil {
			return nil, nil
		}
		reply = bson.D{{Key: "nIndexesWas", Value: int32(len(c.indexes))}, {Key: "ns", Value: ns.String()}}
		return map[namespace]*collection{ns: nil}, nil
	})
}

func dropDatabase(r *request) (bson.D, error) {
	if err := r.done(); err != nil {
		return nil, err
	}
	in := func(ns namespace) bool { return ns.db == r.db }
	err := r.engine.define(r.ctx, in, func(s state) (map[namespace]*collection, error) {
		gone := map[namespace]*collection{}
		for ns := range s {
			if in(ns) {
				gone[ns] = nil
			}
		}
		return gone, nil
	})
	return bson.D{{Key: "dropped", Value: r.db}}, err
}

func listCollections(r *request) (bson.D, error) {
	f, err := parseFilter(r.document("filter"))
	if err != nil {
		return nil, err
	}
	nameOnly := r.flag("nameOnly")
	r.ignore("authorizedCollections")
	batch := r.cursorOptions()
	if err := r.done(); err != nil {
		return nil, err
	}
	var found []bson.D
	for ns := range r.engine.current() {
		if ns.db != r.db {
			continue
		}
		d := bson.D{{Key: "name", Value: ns.collection}, {Key: "type", Value: "collection"}}
		if !nameOnly {
			d = append(d,
				bson.E{Key: "options", Value: bson.D{}},
				bson.E{Key: "info", Value: bson.D{{Key: "readOnly", Value: false}}},
				bson.E{Key: "idIndex", Value: idIndex.document()})
		}
		if f.match(d) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b bson.D) int { return strings.Compare(a[0].Value.(string), b[0].Value.(string)) })
	docs := make([]any, len(found))
	for i, d := range found {
		docs[i] = d
	}
	return r.openCursor(namespace{r.db, "$cmd.listCollections"}, docs, batch, false)
}

func listDatabases(r *request) (bson.D, error) {
	f, err := parseFilter(r.document("filter"))
	if err != nil {
		return nil, err
	}
	nameOnly := r.flag("nameOnly")
	r.ignore("authorizedDatabases")
	if err := r.done(); err != nil {
		return nil, err
	}
	if r.db != "admin" {
		return nil, errorf(unauthorized, "listDatabases may only be run against the admin database.")
	}
	sizes := map[string]int64{}
	for ns, c := range r.engine.current() {
		c.records.Scan(func(rec *record) bool { sizes[ns.db] += int64(len(rec.raw)); return true })
	}
	var names []string
	for name := range sizes {
		names = append(names, name)
	}
	slices.Sort(names)
	list, total := bson.A{}, int64(0)
	for _, name := range names {
		d := bson.D{{Key: "name", Value: name}}
		if !nameOnly {
			d = append(d, bson.E{Key: "sizeOnDisk", Value: sizes[name]}, bson.E{Key: "empty", Value: sizes[name] == 0})
		}
		if f.match(d) {
			list = append(list, d)
			total += sizes[name]
		}
	}
	reply := bson.D{{Key: "databases", Value: list}}
	if !nameOnly {
		reply = append(reply, bson.E{Key: "totalSize", Value: total})
	}
	return reply, nil
}

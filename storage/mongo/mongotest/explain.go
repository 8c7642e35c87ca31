package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/bson"
)

// explain tells the plan that the command would run by, and with a verbosity
// above queryPlanner how much that looks at. It changes nothing.
func explain(r *request) (bson.D, error) {
	raw, ok := r.target.DocumentOK()
	if !ok {
		return nil, errorf(typeMismatch, "explain takes a command")
	}
	verbosity := r.text("verbosity")
	if err := r.done(); err != nil {
		return nil, err
	}
	name := raw.Index(0).Key()
	target, _ := raw.Index(0).Value().StringValueOK()
	ns := namespace{r.db, target}
	q, err := explained(name, raw)
	if err != nil {
		return nil, err
	}
	p := newPlan(r.collection(ns), q.filter, q.sort)
	reply := bson.D{
		{Key: "explainVersion", Value: "1"},
		{Key: "queryPlanner", Value: bson.D{
			{Key: "namespace", Value: ns.String()},
			{Key: "winningPlan", Value: p.document()},
			{Key: "rejectedPlans", Value: bson.A{}},
		}},
		{Key: "command", Value: raw},
	}
	if verbosity == "queryPlanner" {
		return reply, nil
	}
	found, err := p.find(r.ctx, q.skip, q.limit)
	if err != nil {
		return nil, err
	}
	return append(reply, bson.E{Key: "executionStats", Value: bson.D{
		{Key: "executionSuccess", Value: true},
		{Key: "nReturned", Value: int32(len(found))},
		{Key: "totalKeysExamined", Value: int32(p.keysExamined)},
		{Key: "totalDocsExamined", Value: int32(p.docsExamined)},
	}}), nil
}

// explained reads the query of a command.
func explained(name string, raw bson.Raw) (*query, error) {
	a, err := parseArguments(name, raw)
	if err != nil {
		return nil, err
	}
	a.ignore(name, "$db", "lsid", "batchSize", "singleBatch", "readConcern", "writeConcern", "comment", "ordered", "cursor")
	q := &query{}
	switch name {
	case "find":
		q, err = parseQuery(a)
	case "count":
		q.skip, q.limit = a.count("skip"), a.count("limit")
		q.filter, err = parseFilter(a.document("query"))
	case "aggregate":
		var p *pipeline
		if p, err = parsePipeline(a.documents("pipeline")); err == nil {
			q.filter = p.filter
		}
	case "update", "delete":
		statements := a.documents(name + "s")
		if len(statements) != 1 {
			return nil, errorf(invalidOptions, "only a single %s can be explained", name)
		}
		if name == "delete" {
			q.filter, q.limit, err = parseDeleteStatement(statements[0])
			break
		}
		var m *modification
		if m, q.limit, err = parseUpdateStatement(statements[0]); err == nil {
			q.filter = m.filter
		}
	default:
		return nil, refused("explain of " + name)
	}
	if err != nil {
		return nil, err
	}
	return q, a.done()
}

func (p *plan) document() bson.D {
	if p.collection == nil {
		return bson.D{{Key: "stage", Value: "EOF"}}
	}
	d := bson.D{{Key: "stage", Value: "COLLSCAN"}, {Key: "direction", Value: "forward"}}
	if x := p.index; x != nil {
		direction := "forward"
		if p.backward {
			direction = "backward"
		}
		d = bson.D{{Key: "stage", Value: "FETCH"}, {Key: "inputStage", Value: bson.D{
			{Key: "stage", Value: "IXSCAN"},
			{Key: "keyPattern", Value: x.pattern()},
			{Key: "indexName", Value: x.Name},
			{Key: "isMultiKey", Value: x.multikey},
			{Key: "isUnique", Value: x.Unique},
			{Key: "direction", Value: direction},
		}}}
	}
	if len(p.sort) > 0 && !p.ordered {
		d = bson.D{{Key: "stage", Value: "SORT"}, {Key: "inputStage", Value: d}}
	}
	return d
}

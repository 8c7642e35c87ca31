package mongotest

import (
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// replicaSet is the name of the replica set that doubles and servers started
// here belong to.
const replicaSet = "rs0"

func hello(r *request) (bson.D, error) {
	// What a client says of itself, and an offer to authenticate in the same
	// step, which a server need not take up.
	r.ignore("client", "compression", "helloOk", "hostInfo", "internalClient", "loadBalanced",
		"speculativeAuthenticate", "topologyVersion", "maxAwaitTimeMS", "backpressure")
	mechanismsOf := r.text("saslSupportedMechs")
	if err := r.done(); err != nil {
		return nil, err
	}
	reply := bson.D{{Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true}, {Key: "helloOk", Value: true}}
	switch addr := r.double.address; {
	case r.double.config.Standalone:
	case r.double.config.Router:
		reply = append(reply, bson.E{Key: "msg", Value: "isdbgrid"}, bson.E{Key: "logicalSessionTimeoutMinutes", Value: int32(30)})
	default:
		reply = append(reply,
			bson.E{Key: "setName", Value: replicaSet},
			bson.E{Key: "setVersion", Value: int32(1)},
			bson.E{Key: "secondary", Value: false},
			bson.E{Key: "hosts", Value: bson.A{addr}},
			bson.E{Key: "primary", Value: addr},
			bson.E{Key: "me", Value: addr},
			bson.E{Key: "logicalSessionTimeoutMinutes", Value: int32(30)})
	}
	if mechanismsOf != "" && r.double.scram != nil {
		reply = append(reply, bson.E{Key: "saslSupportedMechs", Value: bson.A{scramMechanism}})
	}
	return append(reply,
		bson.E{Key: "maxBsonObjectSize", Value: int32(maxDocumentSize)},
		bson.E{Key: "maxMessageSizeBytes", Value: int32(maxMessageSize)},
		bson.E{Key: "maxWriteBatchSize", Value: int32(maxBatch)},
		bson.E{Key: "localTime", Value: bson.NewDateTimeFromTime(time.Now())},
		bson.E{Key: "minWireVersion", Value: int32(0)},
		bson.E{Key: "maxWireVersion", Value: wireVersion(r.double.config.Version)},
		bson.E{Key: "readOnly", Value: false}), nil
}

// wireVersion is what the first release of a major version reports.
func wireVersion(version string) int32 {
	major, _, _ := strings.Cut(version, ".")
	if wire, ok := map[string]int32{"5": 13, "6": 17, "8": 25}[major]; ok {
		return wire
	}
	return 21 // MongoDB 7.0
}

// replSetInitiate has nothing left to do: a double is a replica set from the beginning,
// or never.
func replSetInitiate(r *request) (bson.D, error) {
	if r.double.config.Standalone || r.double.config.Router {
		return nil, errorf(commandNotFound, "no such command: 'replSetInitiate'")
	}
	return nil, errorf(alreadyInitialized, "already initialized")
}

func buildInfo(r *request) (bson.D, error) {
	if err := r.done(); err != nil {
		return nil, err
	}
	version := r.double.config.Version
	numbers := bson.A{int32(0), int32(0), int32(0), int32(0)}
	for i, part := range strings.SplitN(version, ".", 3) {
		n, _ := strconv.ParseInt(part, 10, 32)
		numbers[i] = int32(n)
	}
	return bson.D{
		{Key: "version", Value: version},
		{Key: "versionArray", Value: numbers},
		{Key: "gitVersion", Value: "mongotest double"},
		{Key: "modules", Value: bson.A{}},
		{Key: "bits", Value: int32(64)},
		{Key: "maxBsonObjectSize", Value: int32(maxDocumentSize)},
	}, nil
}

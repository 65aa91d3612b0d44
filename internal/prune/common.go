package prune

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The sizes that the API allows for names.
const (
	// MaxName bounds the name of an object: a DNS subdomain.
	MaxName = 253
	// MaxLabel bounds a namespace, the name of a container, or the value of a label.
	MaxLabel = 63
	// MaxVersion bounds a resource version. API servers make numbers of at most 20 digits;
	// others may make any text.
	MaxVersion = 1 << 10
	// MaxWords bounds the texts that people read: reasons and messages. The kubelet bounds what
	// a container says at its end the same.
	MaxWords = 4 << 10
)

// maxContinue bounds the token for the next page of a list: that of an API server holds the
// name of the last object.
const maxContinue = 4 << 10

var listSchema = NewSchema(&metav1.ListMeta{}, "List", Bounds{Types: 1 << 10, Texts: 16 << 10}, Fields{
	"resourceVersion": Exact(MaxVersion), "continue": Exact(maxContinue),
})

// maxCauses is how many causes of an error are kept.
const maxCauses = 16

var statusSchema = NewSchema(&metav1.Status{}, "Status", Bounds{Types: 16 << 10, Texts: 16 << 10}, Fields{
	"status": Text(MaxLabel), "message": Text(MaxWords), "reason": Text(MaxName), "code": Number(),
	"details": Message(Fields{
		"name": Text(MaxName), "group": Text(MaxName), "kind": Text(MaxName), "retryAfterSeconds": Number(),
		"causes": List(maxCauses, Message(Fields{"reason": Text(MaxName), "message": Text(MaxWords), "field": Text(MaxName)})),
	}),
})

package failure

import (
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

func TestOnlyTheHubSaysThatThereIsNoPooledJob(t *testing.T) {
	g := NewWithT(t)
	of := func(group string) error {
		err := apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: "pooledjobs"}, "j")
		err.ErrStatus.Message = "the Pods of PooledJob j are gone"
		return err
	}
	g.Expect(Explain(of(v1alpha1.GroupVersion.Group))).To(MatchError(ContainSubstring(`there is no PooledJob "j"`)))
	g.Expect(Explain(of("stream.pooledjob.io"))).To(MatchError("the Pods of PooledJob j are gone"))
}

package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
	"github.com/pooledjob/pooledjob/internal/cli/cluster"
	"github.com/pooledjob/pooledjob/internal/cli/command"
	"github.com/pooledjob/pooledjob/internal/cli/state"
	"github.com/pooledjob/pooledjob/internal/cli/terminal"
)

// readManifest reads the one PooledJob of a manifest.
func readManifest(env *command.Environment, cmd *cobra.Command, args []string, options *runOptions) (*v1alpha1.PooledJob, error) {
	if changed := firstChanged(cmd, jobFlags()); changed != "" {
		return nil, fmt.Errorf("--%s cannot be used with -f: write it into the file", changed)
	}
	if len(options.job.command) > 0 {
		return nil, errors.New("a command after `--` cannot be used with -f: write it into the file")
	}
	infos, err := resource.NewBuilder(env.Flags).Local().Unstructured().FilenameParam(false, &options.files).Flatten().Do().Infos()
	if err != nil {
		return nil, err
	}
	if len(infos) != 1 {
		return nil, fmt.Errorf("%s holds %d objects; it must hold one PooledJob", strings.Join(options.files.Filenames, ", "), len(infos))
	}
	job, err := decodeJob(infos[0].Object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", infos[0].Source, err)
	}
	if len(args) == 1 {
		job.Name, job.GenerateName = args[0], ""
	}
	return job, settleNamespace(env, job)
}

// settleNamespace gives a manifest without a namespace the current one, and refuses one
// that -n contradicts.
func settleNamespace(env *command.Environment, job *v1alpha1.PooledJob) error {
	namespace, explicit, err := env.Flags.ToRawKubeConfigLoader().Namespace()
	switch {
	case err != nil:
		return err
	case job.Namespace == "":
		job.Namespace = namespace
	case explicit && job.Namespace != namespace:
		return fmt.Errorf("the file's namespace is %s and -n is %s; leave one of them out", job.Namespace, namespace)
	}
	return nil
}

// decodeJob reads a PooledJob, and refuses fields that it does not have.
func decodeJob(obj runtime.Object) (*v1alpha1.PooledJob, error) {
	kind := obj.GetObjectKind().GroupVersionKind()
	if kind != v1alpha1.GroupVersion.WithKind("PooledJob") {
		return nil, fmt.Errorf("it is a %s of %s; it must be a PooledJob of %s", kind.Kind, kind.GroupVersion(), v1alpha1.GroupVersion)
	}
	object, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil, errors.New("it cannot be read as an object")
	}
	job := &v1alpha1.PooledJob{}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, job, true)
	if err != nil {
		return nil, fmt.Errorf("it is no valid PooledJob: %w", err)
	}
	job.Status = v1alpha1.PooledJobStatus{}
	return job, nil
}

// jobFlags returns the flags that say what a file would say.
func jobFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	addJobFlags(flags, &jobOptions{})
	return flags
}

func firstChanged(cmd *cobra.Command, flags *pflag.FlagSet) (changed string) {
	flags.VisitAll(func(flag *pflag.Flag) {
		if changed == "" && cmd.Flags().Changed(flag.Name) {
			changed = flag.Name
		}
	})
	return changed
}

// createOrFind creates a PooledJob or, when the same one exists and has not ended, finds
// it again.
func createOrFind(ctx context.Context, hub *cluster.Client, wanted *v1alpha1.PooledJob, options *startOptions) (job *v1alpha1.PooledJob, done string, err error) {
	how := []client.CreateOption{client.FieldOwner(cluster.FieldOwner), client.FieldValidation(metav1.FieldValidationStrict)}
	if options.dryRun == command.DryRunServer {
		how = append(how, client.DryRunAll)
	}
	job = wanted.DeepCopy()
	err = hub.Create(ctx, job, how...)
	if !apierrors.IsAlreadyExists(err) {
		return job, "created", err
	}
	existing := &v1alpha1.PooledJob{}
	if err := hub.Get(ctx, client.ObjectKeyFromObject(wanted), existing); err != nil {
		return nil, "", err
	}
	same, err := asStored(ctx, hub, existing, wanted)
	if err != nil {
		return nil, "", err
	}
	return existing, "found again", mayRejoin(existing, same, options.takeResult)
}

// asStored returns what is wanted as the API server would store it: it fills in defaults, which
// make no other run of the same manifest.
func asStored(ctx context.Context, hub *cluster.Client, existing, wanted *v1alpha1.PooledJob) (*v1alpha1.PooledJob, error) {
	if difference, err := specDifference(existing, wanted); err != nil || difference == "" {
		return wanted, err
	}
	stored := wanted.DeepCopy()
	stored.Name, stored.GenerateName = "", "rejoin-" // not taken
	err := hub.Create(ctx, stored, client.DryRunAll, client.FieldOwner(cluster.FieldOwner), client.FieldValidation(metav1.FieldValidationStrict))
	return stored, err
}

// mayRejoin reports whether an existing run is the one that is wanted; if not, what to do.
func mayRejoin(existing, wanted *v1alpha1.PooledJob, takeResult bool) error {
	name, namespace := existing.Name, existing.Namespace
	difference, err := specDifference(existing, wanted)
	switch {
	case err != nil:
		return err
	case existing.DeletionTimestamp != nil:
		return fmt.Errorf("PooledJob %s/%s is being deleted: wait with `kubectl wait --for=delete pooledjob/%s -n %s`, or take another name",
			namespace, name, name, namespace)
	case difference != "":
		return fmt.Errorf("the name %s is taken by a run with another %s: take another name, or delete that run with `kubectl delete pooledjob %s -n %s`",
			name, difference, name, namespace)
	case takeResult && existing.Status.Phase == v1alpha1.PooledJobSucceeded:
		return nil
	case state.HasEnded(existing):
		return fmt.Errorf("the run %s has ended (%s): run it again with `kubectl pooledjob rerun %s -n %s`, or delete it with `kubectl delete pooledjob %s -n %s`",
			name, terminal.Printable(state.DescribeEnd(existing)), name, namespace, name, namespace)
	}
	return nil
}

// specDifference names what the specs do not have in common, but for the fields that may
// change while a run is under way.
func specDifference(a, b *v1alpha1.PooledJob) (string, error) {
	first, firstErr := fixedSpec(a)
	second, secondErr := fixedSpec(b)
	if err := errors.Join(firstErr, secondErr); err != nil {
		return "", err
	}
	switch {
	case !equality.Semantic.DeepEqual(first.Template, second.Template):
		return "spec.template", nil
	case first.ClusterName != second.ClusterName || !equality.Semantic.DeepEqual(first.ClusterSelector, second.ClusterSelector):
		return "cluster", nil
	case !equality.Semantic.DeepEqual(first, second):
		return "spec", nil
	}
	return "", nil
}

// fixedSpec returns what cannot change, as the API server would store it.
func fixedSpec(job *v1alpha1.PooledJob) (*v1alpha1.PooledJobSpec, error) {
	data, err := json.Marshal(job.Spec)
	if err != nil {
		return nil, err
	}
	spec := &v1alpha1.PooledJobSpec{}
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, err
	}
	spec.Suspend, spec.Cancel, spec.TTLSecondsAfterFinished, spec.DeletionPolicy = nil, nil, nil, ""
	return spec, nil
}

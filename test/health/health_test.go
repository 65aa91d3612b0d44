package health

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/cel-go/cel"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	lua "github.com/yuin/gopher-lua"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/pooledjob/pooledjob/api/v1alpha1"
)

// health is what is seen of an object at a glance.
type health struct {
	// Cluster and Reason are columns of kubectl get.
	Cluster, Reason string
	// KStatus is what kstatus says, and Flux and Argo what the checks of config/gitops say.
	KStatus, Flux, Argo string
}

// checks are the expressions and scripts of config/gitops.
type checks struct {
	flux map[string]string // of a PooledJob, by the state that it stands for
	argo map[string]string // by kind
}

func readChecks() checks {
	read := func(name string, into any) {
		data, err := os.ReadFile(filepath.Join(env.Root, "config", "gitops", name))
		Expect(err).NotTo(HaveOccurred())
		Expect(yaml.Unmarshal(data, into)).To(Succeed())
	}
	var kustomization struct {
		Spec struct{ HealthCheckExprs []map[string]string }
	}
	read("flux-kustomization.yaml", &kustomization)
	Expect(kustomization.Spec.HealthCheckExprs).To(HaveLen(1))
	var config corev1.ConfigMap
	read("argocd-cm.yaml", &config)
	c := checks{flux: kustomization.Spec.HealthCheckExprs[0], argo: map[string]string{}}
	for _, kind := range []string{"PooledJob", "ClusterConnection"} {
		c.argo[kind] = config.Data["resource.customizations.health.pooledjob.io_"+kind]
		Expect(c.argo[kind]).NotTo(BeEmpty())
	}
	return c
}

// of reads an object from the hub, and looks at it as the others do.
func (c checks) of(ctx context.Context, obj client.Object) health {
	GinkgoHelper()
	gvk, err := apiutil.GVKForObject(obj, hub.Scheme())
	Expect(err).NotTo(HaveOccurred())
	mapping, err := hub.RESTMapper().RESTMapping(gvk.GroupKind(), gvk.Version)
	Expect(err).NotTo(HaveOccurred())
	d, err := dynamic.NewForConfig(env.Hub.Config())
	Expect(err).NotTo(HaveOccurred())
	live, err := d.Resource(mapping.Resource).Namespace(obj.GetNamespace()).Get(ctx, obj.GetName(), metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	result, err := status.Compute(live)
	Expect(err).NotTo(HaveOccurred())
	seen := health{KStatus: string(result.Status), Argo: c.byArgo(live)}
	columns := columnsOf(ctx, mapping.Resource.Resource, live)
	seen.Cluster, seen.Reason = columns["Cluster"], columns["Reason"]
	if gvk.Kind == "PooledJob" {
		seen.Flux = c.byFlux(live)
	}
	return seen
}

// byFlux evaluates the expressions in the order in which Flux does; without any that is true it
// waits.
func (c checks) byFlux(live *unstructured.Unstructured) string {
	environment, err := cel.NewEnv(cel.Variable("metadata", cel.DynType), cel.Variable("spec", cel.DynType), cel.Variable("status", cel.DynType))
	Expect(err).NotTo(HaveOccurred())
	for _, state := range []struct{ expression, status string }{
		{"inProgress", "InProgress"}, {"failed", "Failed"}, {"current", "Current"},
	} {
		ast, issues := environment.Compile(c.flux[state.expression])
		Expect(issues.Err()).NotTo(HaveOccurred(), state.expression)
		program, err := environment.Program(ast)
		Expect(err).NotTo(HaveOccurred())
		value, _, err := program.Eval(map[string]any{
			"metadata": live.Object["metadata"], "spec": live.Object["spec"], "status": live.Object["status"],
		})
		Expect(err).NotTo(HaveOccurred(), "%s of %v", state.expression, live.Object["status"])
		if value.Value() == true {
			return state.status
		}
	}
	return "InProgress"
}

// byArgo runs the script as Argo CD does: with the object as obj, and without libraries that reach
// the machine.
func (c checks) byArgo(live *unstructured.Unstructured) string {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString,
	} {
		Expect(state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name))).To(Succeed())
	}
	state.SetGlobal("obj", asLua(state, live.Object))
	Expect(state.DoString(c.argo[live.GetKind()])).To(Succeed())
	answer, ok := state.Get(-1).(*lua.LTable)
	Expect(ok).To(BeTrue(), "the script returns a table")
	Expect(lua.LVAsString(answer.RawGetString("message"))).NotTo(BeEmpty())
	return lua.LVAsString(answer.RawGetString("status"))
}

func asLua(state *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case map[string]any:
		table := state.NewTable()
		for name, field := range v {
			table.RawSetString(name, asLua(state, field))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, item := range v {
			table.Append(asLua(state, item))
		}
		return table
	case string:
		return lua.LString(v)
	case bool:
		return lua.LBool(v)
	case int64:
		return lua.LNumber(v)
	case float64:
		return lua.LNumber(v)
	case nil:
		return lua.LNil
	}
	panic(fmt.Sprintf("a %T in an object", value))
}

// columnsOf returns those that kubectl get shows of an object.
func columnsOf(ctx context.Context, resource string, live *unstructured.Unstructured) map[string]string {
	GinkgoHelper()
	path := "/apis/" + v1alpha1.GroupVersion.String()
	if live.GetNamespace() != "" {
		path += "/namespaces/" + live.GetNamespace()
	}
	data, err := typed.Discovery().RESTClient().Get().AbsPath(path, resource, live.GetName()).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	Expect(err).NotTo(HaveOccurred())
	var table metav1.Table
	Expect(json.Unmarshal(data, &table)).To(Succeed())
	Expect(table.Rows).To(HaveLen(1))
	columns := map[string]string{}
	for i, column := range table.ColumnDefinitions {
		if cell := table.Rows[0].Cells[i]; cell != nil {
			columns[column.Name] = fmt.Sprint(cell)
		}
	}
	return columns
}

package docs

// step is one block of a page and what is to become of it.
type step struct {
	// begins is how the block begins, which tells it from the others of its page.
	begins string
	// before are commands that a reader has given, or is told to give, before.
	before string
	// on is the cluster whose kubeconfig is current: hub unless given.
	on string
	// replaced are placeholders of the page, and what stands for them.
	replaced map[string]string
	// want must be in what the commands print.
	want string
	// after are commands that fail when the block has not done what the page says.
	after string
	// skip is why the block is not run.
	skip string
}

const (
	noEngine    = "there is no container engine and no registry; the end-to-end suite applies what build-installer renders"
	noNamespace = "the hub here has no controllers, and so no namespace is ever gone"
)

// plan is in the order in which the blocks are run.
var plan = []struct {
	page  string
	steps []step
}{
	{"README.md", []step{
		{begins: "make demo"},
		{begins: "make up", want: "target-2"},
		{begins: "kubectl apply -f hello.yaml", want: "Succeeded"},
		{begins: "kubectl pooledjob run hello-again", want: "\nhello again\n"},
		{begins: "kubectl --kubeconfig .local/target-1.kubeconfig", want: `"hello" deleted`},
		{begins: "docker build", skip: noEngine},
		{begins: "make build && export", want: "prod-eu: Ready"},
		{begins: "HUB_KUBECONFIG=", skip: "it is the end-to-end suite"},
	}},
	{"docs/kubectl-pooledjob.md", []step{
		{begins: "kubectl pooledjob run hello", want: "\nhello\n"},
		{
			begins: "kubectl pooledjob logs etl-42", want: "\ntable written\n",
			before: "kubectl pooledjob run etl-42 -n team-a --cluster prod-eu --image busybox:1.37 -- echo table written",
		},
		{begins: "kubectl pooledjob wait etl-42", want: "table written", after: "kubectl get pj etl-42-2 -n team-a"},
		{begins: "kubectl pooledjob connect", want: "prod-eu: Ready"},
		{begins: "kubectl pooledjob completion", before: "mkdir -p ~/.local/bin", after: "~/.local/bin/kubectl_complete-pooledjob run --cluster prod | grep prod-eu"},
		{
			begins: `kubectl pooledjob run "etl-$WORKFLOW_ID"`, want: "\nhello\n",
			before: "sed s/target-1/prod-eu/ hello.yaml > etl.yaml; export WORKFLOW_ID=7", after: "kubectl get pj etl-7 -n team-a",
		},
	}},
	{"docs/logs.md", []step{
		{begins: "kubectl get --raw", want: "hello\n"},
	}},
	{"docs/pooledjob.md", []step{
		{begins: "kubectl wait", want: "condition met"},
		{begins: "kubectl get pooledjob etl-42", want: "Succeeded"},
		{begins: "kubectl get pj etl-42", want: "Name:         etl-42"},
		{begins: "kubectl pooledjob logs etl-42 -n team-a", want: "table written"},
		{begins: "kubectl patch pooledjob etl-42 -n team-a --type=merge -p '{\"spec\":{\"cancel", after: "kubectl get pj etl-42 -n team-a -o yaml | grep 'cancel: true'"},
		{begins: "kubectl patch pooledjob etl-42 -n team-a --type=merge -p '{\"spec\":{\"suspend", after: "kubectl get pj etl-42 -n team-a -o yaml | grep 'suspend: true'"},
		{begins: "kubectl annotate pooledjob", want: "annotated"},
	}},
	{"docs/kubectl-pooledjob.md", []step{
		{
			begins: "kubectl pooledjob disconnect", before: "kubectl delete pj -n team-a --all", want: "ClusterConnection prod-eu deleted",
			after: "! kubectl get clusterconnection prod-eu",
		},
	}},
	{"docs/clusterconnection.md", []step{
		{begins: "kubectl apply -f config/target/role.yaml", on: "target-2", before: "kubectl delete clusterrole pooledjob-target --ignore-not-found"},
		{begins: "server=", on: "target-2", after: "grep -q token: prod-eu.kubeconfig"},
		{begins: "kubectl -n pooledjob-system create secret generic prod-eu --from-file=kubeconfig=prod-eu.kubeconfig", want: "condition met"},
		{
			begins: "kubectl -n pooledjob-system create secret generic prod-eu --from-file=kubeconfig=new.kubeconfig",
			before: "sed 's/name: pooledjob$/name: renamed/; s/user: pooledjob}/user: renamed}/' prod-eu.kubeconfig > new.kubeconfig", want: "configured",
			after: "kubectl wait --for=condition=Ready clusterconnection/prod-eu --timeout=30s",
		},
		{begins: "kubectl -n pooledjob create role pooledjob-token", on: "target-2", want: "created"},
		{begins: "kubectl annotate clusterconnection prod-eu --overwrite pooledjob.io/confirm", replaced: map[string]string{
			"=UID": "=$(kubectl get cc prod-eu -o jsonpath={.status.clusterUID})",
		}, want: "annotated"},
		{
			begins: "kubectl get pooledjobs -A --no-headers", want: `"given-up" deleted`, after: "! kubectl get pj given-up -n team-a",
			before:   "kubectl pooledjob run given-up -n team-a --cluster prod-eu --image busybox:1.37 --detach -- sleep 1h; kubectl wait pj/given-up -n team-a --for=condition=Dispatched",
			replaced: map[string]string{"=OLD": "=$(kubectl get cc prod-eu -o jsonpath={.status.clusterUID})"},
		},
		{begins: "kubectl annotate clusterconnection prod-eu pooledjob.io/fenced", want: "annotated"},
	}},
	{"docs/operations.md", []step{
		{
			begins: "kubectl --context TARGET get jobs -A -L", want: "configmap/pooledjob-hub created",
			before:   "kubectl get cm pooledjob-hub -n pooledjob-system -o jsonpath={.data.id} > id; kubectl delete cm pooledjob-hub -n pooledjob-system",
			replaced: map[string]string{"TARGET": "prod", "id=ID": "id=$(cat id)"},
		},
		{begins: "kubectl --context TARGET get jobs -A -l", replaced: map[string]string{"TARGET": "prod", "=ID": "=$(cat id)"}},
		{begins: "make build-installer", skip: noEngine},
		{begins: "kubectl delete pooledjobs", skip: noNamespace},
	}},
	{"docs/logs.md", []step{
		{begins: "kubectl delete apiservice", want: "created"},
	}},
}

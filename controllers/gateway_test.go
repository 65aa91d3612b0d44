package controllers

import (
	"encoding/pem"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// throughGateway returns a kubeconfig that reaches the target through a gateway of ours,
// which passes on what intercept does not answer. user are the fields of its user;
// client certificates do not get through.
func throughGateway(user string, intercept func(http.ResponseWriter, *http.Request) bool) []byte {
	config := targetCluster.Config()
	transport, err := rest.TransportFor(&rest.Config{Host: config.Host, TLSClientConfig: rest.TLSClientConfig{CAData: config.CAData}})
	Expect(err).NotTo(HaveOccurred())
	address, err := url.Parse(config.Host)
	Expect(err).NotTo(HaveOccurred())
	logger := log.New(GinkgoWriter, "gateway ", 0)
	forward := &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: logger,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(address) },
	}
	gateway := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !intercept(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	gateway.EnableHTTP2, gateway.Config.ErrorLog = true, logger
	gateway.StartTLS()
	DeferCleanup(func() {
		gateway.CloseClientConnections()
		gateway.Close()
	})
	return kubeconfigOf(gateway.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: gateway.Certificate().Raw}), user)
}

// answerObject answers with an object as an API server does that is asked for protobuf.
func answerObject(w http.ResponseWriter, code int, obj client.Object) {
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		panic(err)
	}
	obj.GetObjectKind().SetGroupVersionKind(kinds[0])
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	w.WriteHeader(code)
	_ = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(obj, w) // the client may be gone
}

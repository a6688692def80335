// Reads objects as JSON lines; prints what is wrong with each by the models of Argo CD's and Flux's own types.
import { createInterface } from "node:readline";
import { Application } from "@kubernetes-models/argo-cd/argoproj.io/v1alpha1/Application";
import { HelmRelease } from "@kubernetes-models/flux-cd/helm.toolkit.fluxcd.io/v2/HelmRelease";
import { GitRepository } from "@kubernetes-models/flux-cd/source.toolkit.fluxcd.io/v1/GitRepository";

const models = { Application, GitRepository, HelmRelease };
for await (const line of createInterface({ input: process.stdin })) {
  const object = JSON.parse(line);
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}

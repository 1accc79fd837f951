#!/usr/bin/env node
/** `node dist/train.js`, the command that the README promises; every other one is `npx cudnn-lstm COMMAND`. */
import './cli/compile-cache';
import { runCommand } from './cli/command';
import { trainCommand } from './cli/train';

void runCommand(trainCommand);

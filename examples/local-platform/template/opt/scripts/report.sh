#!/bin/sh
echo "weekly report"
